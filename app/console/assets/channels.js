// Channels: how each of their credentials is and why, what happened to them, and where a request would go.
import {$, button, call, code, element, fill, page, send, show, shown, table, together, when} from "./core.js";

const KINDS = ["created", "changed", "draining", "resumed", "drained", "opened", "half_open", "closed", "cooling", "parked", "returned", "test_failed", "test_passed", "balance_low", "usage_beyond_bound"];
const state = name => element("span", {className: `state ${name}`, textContent: name.replace("_", "-")});

// What tests came to, by channel: kept beyond the next drawing of the table.
const results = new Map();
function testButton(channel) {
  const made = button(results.get(channel.id) || "Test", "test" + channel.id, async () => {
    made.disabled = true; made.textContent = "…";
    const result = await call(`/channels/${channel.id}/test`, {method: "POST"}).catch(error => ({error: error.message}));
    results.set(channel.id, result.ok ? `ok, ${result.latency_ms} ms` : result.error);
    made.textContent = results.get(channel.id);
    made.disabled = false;
  });
  return made;
}
const act = (text, path, body = {}) => button(text, path + JSON.stringify(body), () => shown(send(path, body).then(page.refresh)));

function drain(channel) {
  fill(`Drain ${channel.name}`, [], "Take no new requests, and switch it off when the last has ended", () => send(`/channels/${channel.id}/drain`, {}));
}
async function events(channel) {
  const found = await call(`/channels/${channel.id}/events?limit=100`);
  const box = element("div", {className: "wide"});
  drawEvents(box, found.items, {});
  show(`What happened to ${channel.name}`, box, {broad: true});
}
const buttons = channel => together(testButton(channel),
  channel.enabled && !channel.draining ? button("Drain…", "drain" + channel.id, () => drain(channel)) : act("Resume", `/channels/${channel.id}/resume`),
  button("Events", "events" + channel.id, () => shown(events(channel))));

function why(way) {
  const cooling = Object.entries(way.cooling).map(([model, until]) => `${model} until ${when(until)}`);
  const last = way.last_error && way.last_error !== way.reason ? `last: ${way.last_error}, ${when(way.last_error_at)}` : "";
  return [way.reason, way.until ? `until ${when(way.until)}` : "", ...cooling, last].filter(Boolean).join("\n");
}
const balance = said => said === null ? null : said.error || `${said.amount} ${said.currency}`;
const credential = way => way.name || element("code", {textContent: "…" + way.credential_id.slice(-6), title: way.credential_id});

// A line for each credential; what the channel has in common stands in its first.
export function drawChannels(channels, health) {
  const byId = Object.fromEntries(health.map(each => [each.channel_id, each]));
  const lines = channels.flatMap(channel => {
    const known = byId[channel.id] || {state: channel.enabled ? "unused" : "off", credentials: []};
    const ways = known.credentials.length ? known.credentials : [null];
    return ways.map((way, index) => ({channel, way, first: index === 0, state: known.state}));
  });
  const common = value => line => line.first ? value(line.channel) : "";
  const own = value => line => line.way ? value(line.way) : null;
  table("channels", [["Name", common(c => `${c.name}\n${c.provider}`), "lines"], ["Models", common(c => Object.keys(c.models).join(", "))], ["Priority, weight", common(c => `${c.priority}, ${c.weight}`), "n"],
    ["Credential", own(credential)], ["State", line => state(line.way && !["off", "draining"].includes(line.state) ? line.way.state : line.state)], ["Why", own(why), "lines"],
    ["In flight", own(w => w.in_flight), "n"], ["Failed of the last 30 s", own(w => w.requests ? `${w.failures} of ${w.requests}` : null), "n"],
    ["First content, ms", own(w => Object.entries(w.first_content_ms).map(([model, ms]) => `${model} ${ms}`).join("\n")), "lines"], ["Balance", own(w => balance(w.balance))],
    ["", line => together(line.first ? buttons(line.channel) : "", line.way?.state === "parked" ? act("Return", `/channels/${line.channel.id}/return`, {credential_id: line.way.credential_id}) : "")]], lines);
}

export function drawEvents(place, found, names) {
  table(place, [["Time", e => when(e.created_at)], ["Channel", e => names[e.channel_id] || code(e.channel_id)], ["Kind", e => e.kind.replace("_", " ")], ["Why", e => e.reason],
    ["By", e => e.actor], ["Credential", e => code(e.credential_id)], ["Model", e => e.model]], found);
}
export async function refreshEvents(channels) {
  const kind = $("event-kind").value;
  const found = await call(`/channel-events?limit=20${kind ? `&kind=${encodeURIComponent(kind)}` : ""}`);
  drawEvents("events", found.items, Object.fromEntries(channels.map(each => [each.id, each.name])));
}
export function prepareChannels() {
  for (const kind of KINDS) $("event-kind").append(element("option", {value: kind, textContent: kind.replace("_", " ")}));
  $("event-kind").onchange = () => page.refresh();
  $("route").onsubmit = event => { event.preventDefault(); shown(explain()); };
}

async function explain() {
  const asked = new FormData($("route"));
  if (!asked.get("conversation")) asked.delete("conversation");
  const found = await call(`/routes/explain?${new URLSearchParams(asked)}`);
  const said = [`Chosen by ${found.strategy.replace("_", " ")}`, found.sticky ? "conversations stay where they are" : "", found.fallbacks.length ? `then ${found.fallbacks.join(", ")}` : "",
    found.health_known ? "" : "Redis is away: the channels' health is not known"].filter(Boolean).join("; ");
  $("route-said").textContent = found.problem ? `It would be refused: ${found.problem}.` : `${said}.`;
  $("route-said").className = found.problem ? "bad" : "";
  table("verdicts", [["", way => way.position, "n"], ["Channel", way => way.channel], ["Credential", way => way.credential || code(way.credential_id.slice(-6))], ["Priority, weight", way => `${way.priority}, ${way.weight}`, "n"],
    ["In flight", way => way.in_flight, "n"], ["First content, ms", way => way.first_content_ms, "n"], ["Cost, USD", way => way.estimate, "n"], ["Why", way => way.reason]], found.ways);
}
