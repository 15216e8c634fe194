// Webhooks, and the alerts that were told to them.
import {$, button, call, code, element, fill, page, send, show, shown, table, together, when} from "./core.js";

const kindsField = {name: "kinds", label: "Kinds, with spaces between: channel.parked, channel.*, budget.*; empty: all", autocomplete: "off"};
const urlField = {name: "url", label: "Address", kind: "url", required: true, placeholder: "https://"};
const kindsOf = text => text ? text.split(/[\s,]+/).filter(Boolean) : null;

function newWebhook() {
  fill("New webhook", [urlField, kindsField, {name: "account_id", label: "Only of this account and those below it"}], "Add", async ({kinds, ...sent}) => {
    const made = await send("/webhooks", {...sent, kinds: kindsOf(kinds)});
    show("New webhook", element("div", {}, element("p", {textContent: "What is sent there is signed with this secret, as Standard Webhooks has it. It is shown this once."}),
      element("textarea", {value: made.secret, readOnly: true, rows: 2, ariaLabel: "Secret", onfocus: event => event.target.select()})));
    return false;
  });
}
function change(hook) {
  fill("Change webhook", [{...urlField, value: hook.url}, {...kindsField, value: (hook.kinds || []).join(" ")}], "Save",
    ({url, kinds}) => send(`/webhooks/${hook.id}`, {url, kinds: kindsOf(kinds)}, "PATCH"));
}
const doing = (text, name, work) => button(text, name, () => shown(work().then(page.refresh)));
const hookButtons = hook => together(
  hook.enabled ? doing("Test", "test" + hook.id, () => send(`/webhooks/${hook.id}/test`, {})) : "",
  button("Change…", "change" + hook.id, () => change(hook)),
  doing(hook.enabled ? "Disable" : "Enable", "able" + hook.id, () => send(`/webhooks/${hook.id}`, {enabled: !hook.enabled}, "PATCH")));

const delivered = alert => alert.deliveries.map(each => [each.status.replace("_", " "), `${each.attempts} tries`, each.last_error, each.next_at ? `next ${when(each.next_at)}` : ""].filter(Boolean).join(", ")).join("\n");

export async function refreshAlerts() {
  const [hooks, alerts] = await Promise.all([call("/webhooks?limit=100"), call("/alerts?limit=20")]);
  table("webhooks", [["Address", h => h.url], ["Kinds", h => (h.kinds || ["all"]).join(", ")], ["Account", h => code(h.account_id)], ["State", h => h.enabled ? "on" : "off"], ["", hookButtons]], hooks.items);
  table("alerts", [["Time", a => when(a.created_at)], ["Kind", a => a.kind], ["About", a => a.details.channel || a.subject], ["Why", a => a.details.reason || a.details.message], ["Told", delivered, "lines"],
    ["", a => a.deliveries.length ? doing("Send again", "again" + a.id, () => send(`/alerts/${a.id}/resend`, {})) : ""]], alerts.items);
}
export function prepareAlerts() { $("new-webhook").onclick = newWebhook; }
