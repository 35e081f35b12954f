// What pages gain from a script; each works without it.

// Times in the reader's own zone, on hover and focus.
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) time.title = full.format(moment);
    if ("absolute" in time.dataset && !Number.isNaN(moment.valueOf())) time.textContent = full.format(moment);
  }
}

// Buttons that copy a text of the page.
function copyButtons(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      await navigator.clipboard.writeText(source.textContent);
      const before = button.lastChild.textContent;
      button.lastChild.textContent = "Copied";
      setTimeout(() => { button.lastChild.textContent = before; }, 2000);
    });
  }
}

// Variables go to where the cursor is in the payload.
function variableButtons(root) {
  for (const button of root.querySelectorAll("button[data-insert]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const field = document.getElementById(button.dataset.into);
      field.setRangeText(button.dataset.insert, field.selectionStart, field.selectionEnd, "end");
      field.focus();
      field.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
}

// A form with input that is not saved asks before it is left.
function guardInput() {
  for (const form of document.querySelectorAll("form[data-guarded]")) {
    let changed = false;
    form.addEventListener("input", () => { changed = true; });
    form.addEventListener("submit", () => { changed = false; });
    addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
  }
}

// A second click while a form is on its way sends nothing.
function sendOnce() {
  addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.submitter?.name === "show") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });
}

// Fields whose choice decides which others there are: the form comes again, at the same place. Keys pass options on
// their way to another one, so what they chose counts when the field is left, or by Enter.
function followChoices() {
  for (const button of document.querySelectorAll("button[data-follows]")) {
    for (const id of button.dataset.follows.split(" ")) {
      const field = document.getElementById(id);
      if (!field) continue;
      let byKeys = false;
      let chosen = field.value;
      const follow = () => {
        if (field.value === chosen) return;
        chosen = field.value;
        button.form.action = `#${id}`;
        button.form.requestSubmit(button);
      };
      field.addEventListener("pointerdown", () => { byKeys = false; });
      field.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") byKeys = true;
        else if (byKeys) follow();
      });
      field.addEventListener("change", () => { if (!byKeys) follow(); });
      field.addEventListener("blur", follow);
    }
  }
}

// Single keys, for those who turned them on; never while something is typed.
function shortcuts() {
  if (!("shortcuts" in document.documentElement.dataset)) return;
  const path = new URL(document.querySelector("form.find").action).pathname.replace(/\/find$/, "");
  const places = { o: "", a: "/automations", d: "/deliveries", e: "/events", p: "/projects", w: "/settings/webhooks" };
  let going = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, select, textarea, [contenteditable]")) return;
    const second = event.timeStamp - going < 1500;
    going = 0;
    if (second && event.key in places) location.assign(path + places[event.key]);
    else if (event.key === "g") going = event.timeStamp;
    else if (event.key === "c") location.assign(`${path}/automations/new`);
    else if (event.key === "?") document.getElementById("shortcuts").togglePopover();
    else if (event.key === "/") { event.preventDefault(); document.getElementById("find").focus(); }
  });
}

// Parts of the page that are asked for again while somebody looks at it, and take their new form where they stand.
// A page that is left alone asks less and less often; what its reader does begins anew. Pages that were opened together
// do not ask together.
const LATE_AFTER = 3;
const SLOWER = 1.3;
const paces = new Map();
const policy = globalThis.trustedTypes?.createPolicy("hookline", { createHTML: (text) => text });
const due = new Map();
const underway = new Set();
let failures = 0;
let updated = new Date();

function parsed(text) {
  return new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");
}

function replacePart(id, page) {
  const old = document.getElementById(id);
  const fresh = page.getElementById(id);
  if (!old || !fresh) return;
  const folds = fresh.querySelectorAll("details");
  old.querySelectorAll("details").forEach((fold, index) => { if (folds[index]) folds[index].open = fold.open; });
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(document.adoptNode(fresh));
  enhance(fresh);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh(part) {
  const { from, parts = part.id } = part.dataset;
  try {
    const answer = await fetch(from, { redirect: "manual", cache: "no-store" });
    if (answer.status === 204) part.dataset.from = answer.headers.get("content-location") ?? from;
    else {
      if (!answer.ok) throw new Error(answer.status);
      const page = parsed(await answer.text());
      for (const id of parts.split(" ")) replacePart(id, page);
    }
    failures = 0;
    updated = new Date();
  } catch {
    failures += 1;
  }
}

function isPaused() {
  return localStorage.getItem("hookline-updates") === "paused";
}

function waitOf(part) {
  const wait = paces.get(part.id) ?? Number(part.dataset.live);
  paces.set(part.id, Math.min(wait * SLOWER, Number(part.dataset.most ?? part.dataset.live)));
  return 1000 * wait * (0.85 + 0.3 * Math.random());
}

// Somebody is there: what waits for longer than at first is due at once, if it has waited that long.
function wakeUp() {
  const now = Date.now();
  for (const part of document.querySelectorAll("[data-live]")) {
    paces.delete(part.id);
    if (due.has(part.id)) due.set(part.id, Math.min(due.get(part.id), now + 1000 * part.dataset.live));
  }
}

function tick() {
  if (!isPaused() && document.visibilityState === "visible" && navigator.onLine) {
    const now = Date.now();
    for (const part of document.querySelectorAll("[data-live]")) {
      if (!due.has(part.id)) due.set(part.id, now + waitOf(part));
      if (now < due.get(part.id) || underway.has(part.id)) continue;
      underway.add(part.id);
      refresh(part).finally(() => {
        underway.delete(part.id);
        due.delete(part.id);
      });
    }
  }
  const state = document.getElementById("live-state");
  const words = failures >= LATE_AFTER ? `Not updated since ${updated.toLocaleTimeString()}.` : "";
  if (state.textContent !== words) state.textContent = words;
}

function keepLive() {
  const button = document.getElementById("live-switch");
  if (!button || !document.querySelector("[data-live]")) return;
  const show = () => { button.textContent = isPaused() ? "Resume updates" : "Pause updates"; };
  button.hidden = false;
  show();
  button.addEventListener("click", () => {
    if (isPaused()) localStorage.removeItem("hookline-updates");
    else localStorage.setItem("hookline-updates", "paused");
    show();
  });
  for (const sign of ["pointerdown", "keydown", "focus", "visibilitychange"]) addEventListener(sign, wakeUp, true);
  setInterval(tick, 1000);
}

function enhance(root) {
  localTimes(root);
  copyButtons(root);
  variableButtons(root);
}

enhance(document);
guardInput();
sendOnce();
shortcuts();
followChoices();
keepLive();
document.addEventListener("htmx:after:swap", () => enhance(document.getElementById("preview") ?? document));
document.getElementById("faults")?.focus();
