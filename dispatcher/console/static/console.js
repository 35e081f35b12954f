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

// Fields whose choice decides which others there are: the form comes again, at the same place.
function followChoices() {
  for (const button of document.querySelectorAll("button[data-follows]")) {
    for (const id of button.dataset.follows.split(" ")) {
      document.getElementById(id)?.addEventListener("change", () => {
        button.form.action = `#${id}`;
        button.form.requestSubmit(button);
      });
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
document.addEventListener("htmx:after:swap", () => enhance(document.getElementById("preview") ?? document));
document.getElementById("faults")?.focus();
