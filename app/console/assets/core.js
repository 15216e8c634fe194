// What all parts of the page stand on: calls of the operator API, tables, the one dialog.
export const $ = id => document.getElementById(id);
// The key stays in this tab: it is gone when the tab is closed.
export const session = {key: sessionStorage.getItem("tollgate-admin-key") || ""};
// Set by page.js: what draws everything anew after a change.
export const page = {refresh: async () => {}};

export async function call(path, options = {}) {
  const answer = await ask(path, options);
  return answer.json();
}
export async function ask(path, options = {}) {
  const answer = await fetch("/admin/v1" + path, {...options, headers: {Authorization: "Bearer " + session.key, ...options.headers}});
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail || answer.statusText), {status: answer.status});
  }
  return answer;
}
export const send = (path, body, method = "POST", headers = {}) => call(path, {method, body: JSON.stringify(body), headers});

// Everything shown is set as text, never as markup.
export function table(place, columns, rows) {
  const box = typeof place === "string" ? $(place) : place;
  // What has not changed stays as it is, with the focus and the result of a test in it.
  const drawn = JSON.stringify(rows);
  if (box.drawn === drawn) return;
  box.drawn = drawn;
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.act : null;
  box.replaceChildren();
  if (!rows.length) { box.append(Object.assign(document.createElement("p"), {className: "none", textContent: "None yet."})); return; }
  const t = document.createElement("table");
  const head = t.createTHead().insertRow();
  for (const [name, , kind] of columns) head.append(Object.assign(document.createElement("th"), {textContent: name, className: kind || ""}));
  const body = t.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [, show, kind] of columns) {
      const cell = line.insertCell();
      cell.className = kind || "";
      const shown = show(row);
      cell.append(shown instanceof Node ? shown : String(shown ?? "–"));
    }
  }
  box.append(t);
  if (focused) [...box.querySelectorAll("button")].find(each => each.dataset.act === focused)?.focus();
}

export const element = (tag, properties = {}, ...children) => { const made = Object.assign(document.createElement(tag), properties); made.append(...children); return made; };
export function button(text, act, onclick, className = "") {
  const made = element("button", {type: "button", textContent: text, onclick, className});
  made.dataset.act = act;
  return made;
}
export const together = (...nodes) => { const part = document.createDocumentFragment(); part.append(...nodes); return part; };

// One dialog serves all; Escape and Close leave it, Enter sends it.
export function show(title, content, {broad = false} = {}) {
  const dialog = $("dialog");
  dialog.className = broad ? "broad" : "";
  const close = element("button", {type: "button", textContent: "Close", onclick: () => dialog.close()});
  dialog.replaceChildren(element("h2", {id: "dialog-title", textContent: title}), content, element("menu", {}, close));
  if (!dialog.open) dialog.showModal();
}
export function fill(title, fields, sendLabel, work) {
  const dialog = $("dialog");
  const fault = element("p", {className: "bad", role: "alert"});
  const form = element("form", {method: "dialog"});
  for (const field of fields) {
    const {label, options, kind, ...rest} = field;
    const input = element(options ? "select" : "input", {...rest, ...(options ? {} : {type: kind || "text"})});
    for (const [value, text] of options || []) input.append(element("option", {value, textContent: text}));
    if (options && rest.value !== undefined) input.value = rest.value;
    form.append(kind === "checkbox" ? element("label", {className: "check"}, input, element("span", {textContent: label}))
      : element("label", {}, element("span", {textContent: label}), input));
  }
  const submit = element("button", {className: "main", textContent: sendLabel});
  const cancel = element("button", {type: "button", textContent: "Cancel", onclick: () => dialog.close()});
  form.append(fault, element("menu", {}, cancel, submit));
  form.onsubmit = async event => {
    event.preventDefault();
    submit.disabled = true; fault.textContent = "";
    const sent = {};
    for (const field of fields) {
      const input = form.elements[field.name];
      if (field.kind === "checkbox") sent[field.name] = input.checked; else if (input.value !== "") sent[field.name] = input.value;
    }
    try {
      if (await work(sent) !== false) dialog.close();
      page.refresh();
    } catch (error) { fault.textContent = error.message; submit.disabled = false; }
  };
  dialog.className = "";
  dialog.replaceChildren(element("h2", {id: "dialog-title", textContent: title}), form);
  if (!dialog.open) dialog.showModal();
}
// Made when a form is opened: sending it twice moves money once.
export const onceKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
export const endOfDay = day => day ? {expires_at: day + "T23:59:59Z"} : {};
export function save(blob, name) {
  const link = element("a", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
export const amountField = {name: "amount", label: "Amount, USD", required: true, inputMode: "decimal", placeholder: "10.00", autocomplete: "off"};
export const memoField = {name: "memo", label: "Memo", maxLength: 1000};

export const shown = work => Promise.resolve(work).catch(error => { $("message").textContent = error.message; });
export const when = at => at ? new Date(at).toLocaleString() : null;
export const code = text => text ? element("code", {textContent: text}) : null;
