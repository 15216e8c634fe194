// The page as a whole: who is let in, and what is drawn when.
import {accountButtons, newAccount, newVouchers, receipt, refreshMargins, voucherButtons} from "./accounts.js";
import {prepareAlerts, refreshAlerts} from "./alerts.js";
import {drawChannels, prepareChannels, refreshEvents} from "./channels.js";
import {$, button, call, element, page, session, shown, table, when} from "./core.js";

const price = (model, name) => model.prices ? model.prices[name] : null;

async function refresh() {
  const [accounts, channels, health, models, receipts, vouchers, books] = await Promise.all(
    ["/accounts?limit=100", "/channels?limit=100", "/health/channels", "/models?limit=200", "/receipts?limit=25", "/vouchers?limit=20", "/ledger/verify"].map(path => call(path)));
  table("accounts", [["Name", a => a.name], ["Id", a => element("code", {textContent: a.id})], ["Balance, USD", a => a.balance, "n"], ["Held, USD", a => a.held, "n"], ["Credit line, USD", a => a.credit_line, "n"], ["", accountButtons]], accounts.items);
  drawChannels(channels.items, health.items);
  table("vouchers", [["Code", v => element("code", {textContent: v.hint})], ["State", v => v.state], ["Amount, USD", v => v.amount, "n"], ["Note", v => v.note], ["Works until", v => when(v.expires_at)],
    ["Redeemed by", v => v.redeemed_by ? accounts.items.find(a => a.id === v.redeemed_by)?.name || v.redeemed_by : null], ["", voucherButtons]], vouchers.items);
  table("models", [["Name", m => m.name], ["Context", m => m.context_length, "n"], ["Input, USD/M", m => price(m, "input"), "n"],
    ["Output, USD/M", m => price(m, "output"), "n"], ["", m => m.prices ? "" : "not on sale: no price"]], models.items);
  table("receipts", [["Time", r => when(r.created_at)], ["Model", r => r.model], ["Status", r => r.status],
    ["In", r => r.usage.input_tokens, "n"], ["Out", r => r.usage.output_tokens, "n"], ["Amount, USD", r => r.amount, "n"],
    ["Margin, USD", r => r.margin, "n"], ["Attempts", r => r.attempts.length, "n"], ["Request", r => button(r.request_id, r.request_id, () => shown(receipt(r.request_id)), "link")]], receipts.items);
  $("model-names").replaceChildren(...models.items.map(each => element("option", {value: each.name})));
  $("books").textContent = books.ok ? "The books are in order." : "The books are NOT in order: " + books.problems.join("; ");
  $("books").className = books.ok ? "" : "bad";
  await Promise.all([refreshMargins(channels.items, accounts.items), refreshEvents(channels.items), refreshAlerts()]);
}

async function enter() {
  $("message").textContent = "";
  try {
    await refresh();
    sessionStorage.setItem("tollgate-admin-key", session.key);
    $("login").hidden = true; $("house").hidden = false;
  } catch (error) {
    if (error.status === 401) { sessionStorage.removeItem("tollgate-admin-key"); $("login").hidden = false; $("house").hidden = true; }
    $("message").textContent = error.message;
  }
}
page.refresh = enter;
prepareChannels();
prepareAlerts();
$("login").onsubmit = event => { event.preventDefault(); session.key = $("key").value.trim(); enter(); };
$("new-account").onclick = newAccount;
$("new-vouchers").onclick = newVouchers;
$("range").onchange = enter;
$("range").onsubmit = event => event.preventDefault();
if (session.key) enter();
setInterval(() => { if (!$("house").hidden && !document.hidden) enter(); }, 5000);
