// Accounts, receipts, vouchers and margins: where money came in, and what it was charged for.
import {$, amountField, ask, button, call, element, endOfDay, fill, memoField, onceKey, save, send, show, shown, table, together} from "./core.js";

export function newAccount() {
  fill("New account", [{name: "name", label: "Name", required: true, maxLength: 200}], "Create", sent => send("/accounts", sent));
}
function credit(account) {
  const once = onceKey();
  fill(`Credit ${account.name}`, [amountField, memoField, {name: "promotional", label: "Promotional: given, not paid in", kind: "checkbox"},
    {name: "until", label: "Lapses after this day (UTC); empty: never", kind: "date"}], "Credit",
    ({until, ...sent}) => send(`/accounts/${account.id}/credits`, {...sent, ...endOfDay(until), idempotency_key: once}));
}
function adjust(account) {
  const once = onceKey();
  fill(`Adjust ${account.name}`, [{...amountField, label: "Amount, USD; with a minus to take it out", placeholder: "-1.00"}, {...memoField, label: "Why", required: true},
    {name: "corrects", label: "Entry or request that this puts right, if any"}], "Adjust",
    sent => send(`/accounts/${account.id}/adjustments`, {...sent, idempotency_key: once}));
}
function change(account) {
  fill(`Change ${account.name}`, [{name: "name", label: "Name", value: account.name, required: true, maxLength: 200},
    {name: "book", label: "Price book", value: account.book, required: true},
    {name: "credit_line", label: "Credit line, USD: how far below zero it may go", value: account.credit_line, required: true, inputMode: "decimal"}], "Save",
    sent => send(`/accounts/${account.id}`, sent, "PATCH"));
}
function statement(account) {
  fill(`Statement of ${account.name}`, [{name: "month", label: "Month (UTC)", kind: "month", value: new Date().toISOString().slice(0, 7), required: true, placeholder: "2026-01", pattern: "[0-9]{4}-[0-9]{2}"},
    {name: "format", label: "As", options: [["html", "page to print"], ["csv", "CSV"], ["json", "JSON"]]}], "Open", async ({month, format}) => {
    const tab = format === "html" ? window.open("", "_blank") : null;
    try {
      const answer = await ask(`/accounts/${account.id}/statements/${month}?format=${format}`);
      const blob = await answer.blob();
      if (tab) tab.location = URL.createObjectURL(blob); else save(blob, `statement-${account.id}-${month}.${format}`);
    } catch (error) { tab?.close(); throw error; }
  });
}
async function journal(account) {
  const page = await call(`/accounts/${account.id}/entries?limit=100`);
  const box = element("div", {className: "wide"});
  table(box, [["Time", e => new Date(e.created_at).toLocaleString()], ["Kind", e => e.kind], ["Memo", e => e.memo], ["Moved, USD", e => e.postings.map(p => `${p.account} ${p.amount}`).join("\n"), "lines"],
    ["Entry", e => element("code", {textContent: e.id})], ["Corrects", e => e.corrects || ""]], page.items);
  show(`Journal of ${account.name}`, box, {broad: true});
}
export const accountButtons = a => together(...[["Credit…", credit], ["Adjust…", adjust], ["Statement…", statement], ["Journal", journal], ["Change…", change]]
  .map(([text, act]) => button(text, text + a.id, () => shown(act(a)))));

export async function receipt(requestId) {
  const whole = await call(`/receipts/${requestId}`);
  const box = element("div", {}, element("pre", {textContent: JSON.stringify(whole, null, 2), tabIndex: 0}));
  if (whole.amount !== whole.unpaid) box.append(element("button", {type: "button", textContent: "Refund…", onclick: () => refund(whole)}));
  show(`Receipt ${requestId}`, box, {broad: true});
}
function refund(whole) {
  const once = onceKey();
  fill(`Refund ${whole.request_id}`, [{...amountField, required: false, label: `Amount, USD; empty: all that is left of ${whole.amount}`}, memoField], "Refund",
    sent => send(`/receipts/${whole.request_id}/refund`, {...sent, idempotency_key: once}));
}

export function newVouchers() {
  const once = onceKey();
  fill("New vouchers", [{name: "count", label: "How many", kind: "number", min: 1, max: 10000, value: 1, required: true}, amountField,
    {name: "until", label: "Codes work until the end of this day (UTC); empty: for good", kind: "date"},
    {name: "credit_days", label: "Days that the credit lasts once redeemed; empty: for good", kind: "number", min: 1, max: 36500},
    {name: "promotional", label: "Promotional: given, not paid for", kind: "checkbox"}, {name: "note", label: "Note", maxLength: 1000}], "Make", async ({until, count, credit_days, ...sent}) => {
    const body = {...sent, ...endOfDay(until), count: Number(count), idempotency_key: once, ...(credit_days ? {credit_days: Number(credit_days)} : {})};
    const made = await send("/vouchers", body);
    const codes = made.codes.join("\n") + "\n";
    show(`${made.count} vouchers of ${made.amount} USD`, element("div", {}, element("p", {textContent: "These codes are shown this once: only their hashes are kept."}),
      element("textarea", {value: codes, readOnly: true, rows: Math.min(12, made.count + 1), ariaLabel: "Codes", onfocus: event => event.target.select()}),
      element("p", {}, element("button", {type: "button", textContent: "Save as CSV", onclick: () => save(new Blob(["code\r\n" + made.codes.join("\r\n") + "\r\n"], {type: "text/csv"}), `vouchers-${made.batch_id}.csv`)}))));
    return false;
  });
}
function cancelBatch(voucher) {
  fill(`Cancel batch ${voucher.batch_id}`, [], "Cancel what is not redeemed", () => call(`/vouchers/batches/${voucher.batch_id}/cancel`, {method: "POST"}));
}
export const voucherButtons = v => v.state === "open" ? button("Cancel batch…", "cancel" + v.id, () => cancelBatch(v)) : "";

export async function refreshMargins(channels, accounts) {
  const form = $("range"), today = new Date().toISOString().slice(0, 10);
  for (const name of ["from", "to"]) form.elements[name].value ||= today;
  const by = form.elements.by.value, column = {by_model: "model", by_channel: "channel_id", by_account: "account_id", by_book: "book"}[by];
  const names = Object.fromEntries([...channels, ...accounts].map(each => [each.id, each.name]));
  const found = await call(`/reports/margins?from=${form.elements.from.value}&to=${form.elements.to.value}`);
  const rows = found[by].map(row => ({...row, name: names[row[column]] || row[column] || "none served"}));
  if (rows.length) rows.push({...found.total, name: "Total"});
  table("margins", [["", r => r.name], ["Requests", r => r.requests.toLocaleString(), "n"], ["In", r => r.input_tokens.toLocaleString(), "n"], ["Out", r => r.output_tokens.toLocaleString(), "n"],
    ["Charged, USD", r => r.charged, "n"], ["Unpaid, USD", r => r.unpaid, "n"], ["Cost, USD", r => r.upstream_cost, "n"], ["Margin, USD", r => r.margin, "n"], ["%", r => r.margin_percent, "n"]], rows);
}

