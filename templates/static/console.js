// The console's small conveniences: live updates, keys, counters, dialogs, toasts.
// Every page works without it, except that nothing then updates by itself.
"use strict";

(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const csrf = () => one('meta[name="csrf"]').content;

  // htmx parses answers of our own origin only (selfRequestsOnly); this lets it do so
  // where the page's policy demands trusted types.
  if (window.trustedTypes && !window.trustedTypes.defaultPolicy) {
    window.trustedTypes.createPolicy("default", { createHTML: (html) => html });
  }

  const word = (name, values = {}) =>
    one("#words").dataset[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);

  // ---- toasts ----

  const TOAST_MS = 8000;
  const UNDO_MS = 6000; // so long the server lets an answer be taken back

  const fadeLater = (toast) =>
    setTimeout(() => toast.remove(), one("[data-undo]", toast) ? UNDO_MS : TOAST_MS);

  function showToast({ text, undo = "", tone = "good" }) {
    // Several parts of a page may find out the same; saying it once is enough.
    for (const old of all(".toast")) if (!undo && old.textContent === text) old.remove();
    const toast = document.createElement("div");
    toast.className = `toast ${tone}`;
    toast.textContent = text;
    if (undo) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.undo = undo;
      button.textContent = word("undo");
      toast.append(button);
    }
    one(".toasts").append(toast);
    fadeLater(toast);
  }

  function undo(button) {
    const onPage = Boolean(one("#matter"));
    button.closest(".toast")?.remove();
    window.htmx.ajax("POST", button.dataset.undo, {
      target: onPage ? "#matter" : "body",
      swap: "innerHTML",
    });
  }

  // ---- times ----

  function span(milliseconds) {
    const minutes = Math.floor(Math.abs(milliseconds) / 60000);
    const days = Math.floor(minutes / 1440);
    const hours = Math.floor((minutes % 1440) / 60);
    const parts = [];
    if (days) parts.push(word("day", { n: days }));
    if (hours) parts.push(word("hour", { n: hours }));
    if (!days && (minutes % 60 || !hours)) parts.push(word("minute", { n: minutes % 60 }));
    return parts.join(" ");
  }

  function freshenTimes() {
    const now = Date.now();
    for (const time of all("time[data-countdown]")) {
      const left = new Date(time.dateTime) - now;
      time.textContent = word(left > 0 ? "left" : "over", { t: span(left) });
      time.closest(".due")?.classList.toggle("over", left <= 0);
    }
    for (const time of all("time[data-ago]")) {
      const age = now - new Date(time.dateTime);
      if (age < 60000) time.textContent = word("now");
      else if (age < 3600000) {
        const minutes = word("minute", { n: Math.floor(age / 60000) });
        time.textContent = word("ago", { t: minutes });
      }
    }
  }

  // ---- texts: growing boxes and counters ----

  function grow(box) {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  }

  // The server decides; this shows the same count while somebody writes. A string's
  // length counts UTF-16 units, as SMS does.
  function segments(length, single, part) {
    if (!length) return 0;
    return length <= single ? 1 : Math.ceil(length / part);
  }

  function countAnswer(box) {
    const way = one("#answer-way");
    const counter = one("[data-counter]", box.form);
    if (!way?.dataset.unit || !counter) return;
    const { unit, limit, single, part, signature } = way.dataset;
    const text = box.value ? signature + box.value : "";
    const length = unit === "utf8" ? new TextEncoder().encode(text).length : text.length;
    const over = length - Number(limit);
    const n = segments(length, Number(single), Number(part));
    counter.textContent = !text ? "" : over > 0
      ? word("tooLong", { n: over })
      : word(Number(single) ? "segments" : "characters", { c: [...text].length, n });
    counter.classList.toggle("danger-text", over > 0);
  }

  function countText(box) {
    const counter = one(`[data-counts="${box.id}"]`);
    if (!counter) return;
    const n = segments(box.value.length, Number(box.dataset.single), Number(box.dataset.part));
    counter.textContent = word(box.dataset.single ? "segments" : "characters", {
      c: [...box.value].length,
      n,
    });
  }

  // Unsent answers outlive a change of matter, in this window only.
  const drafts = new Map();

  function restoreDraft(root) {
    const form = one("form[data-draft]", root);
    const box = form && one("[data-answer]", form);
    if (box && !box.value) box.value = drafts.get(form.dataset.draft) ?? "";
  }

  function insertAtCursor(box, text) {
    box.focus();
    box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // ---- dialogs ----

  function openDialog(id) {
    const dialog = document.getElementById(id);
    if (!dialog || dialog.open) return;
    dialog.showModal();
    dialog.dispatchEvent(new Event("opened")); // what it offers may have to be fetched
    (one("[aria-invalid], textarea, select", dialog) ?? one("button", dialog))?.focus();
  }

  // What can't be taken back isn't done by pressing Enter twice.
  function ask(text, dangerous = false) {
    const dialog = one("#confirm");
    one("#confirm-text").textContent = text;
    dialog.returnValue = "no";
    dialog.showModal();
    one(`[value="${dangerous ? "no" : "yes"}"]`, dialog).focus();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), {
        once: true,
      });
    });
  }

  // ---- the stream ----

  const stream = () => one("[data-stream]");
  const rows = () => all(".row[data-number]", stream() ?? document);
  const listQuery = () => {
    const form = one("[data-filters]");
    return new URLSearchParams(form ? new FormData(form) : location.search);
  };
  const openNumber = () => one("[data-matter]")?.dataset.number ?? "";
  const openId = () => one("[data-matter]")?.dataset.matter ?? "";
  let waiting = new Set();

  function markOpenRow() {
    const number = openNumber();
    for (const row of rows()) {
      if (row.dataset.number === number) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  function showPill() {
    const pill = one("[data-new-pill]");
    if (!pill) return;
    pill.hidden = waiting.size === 0;
    pill.textContent = word("new", { n: waiting.size });
  }

  function takeNewRows() {
    waiting.clear();
    showPill();
    stream().scrollTop = 0;
    window.htmx.ajax("GET", `/inquiries?${listQuery()}`, {
      target: "#stream",
      swap: "innerHTML",
    });
  }

  // Without a connection there is no answer: what is renewed later says the same.
  const renewed = (path, more) => fetch(path, more).catch(() => null);

  async function fetchRow(id, query) {
    query.set("selected", openNumber());
    const answer = await renewed(`/inquiries/${encodeURIComponent(id)}/row?${query}`, {
      headers: { "HX-Request": "true" },
    });
    if (answer?.status !== 200) return null;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    return one(".row", holder.content);
  }

  // What no longer belongs to the list stays until the list is read anew, with its new
  // state.
  async function leftRow(id) {
    const known = document.getElementById(`row-${id}`);
    return known ? fetchRow(id, new URLSearchParams({ tab: "all" })) : null;
  }

  // A known row is renewed where it stands; a new one is put on top if the top is in
  // sight, and announced otherwise. Nothing that somebody is reading moves.
  async function inquiryChanged(id) {
    if (stream()) {
      const row = (await fetchRow(id, listQuery())) ?? (await leftRow(id));
      if (row) placeRow(id, row);
    }
    if (openId() === id) await renewMatter(id);
  }

  function placeRow(id, row) {
    const known = document.getElementById(row.id);
    if (!known && stream().scrollTop >= 8) {
      waiting.add(id);
      showPill();
      return;
    }
    if (known) {
      const focused = known === document.activeElement;
      known.replaceWith(row);
      if (focused) row.focus({ preventScroll: true });
    } else {
      one(".empty", stream())?.remove();
      stream().prepend(row);
    }
    row.classList.add("arrived");
    window.htmx.process(row);
    freshenTimes();
  }

  async function renewMatter(id) {
    const line = one("[data-timeline]");
    const atEnd = line.scrollHeight - line.scrollTop - line.clientHeight < 40;
    const before = line.scrollTop;
    await window.htmx.ajax("GET", `/inquiries/${encodeURIComponent(id)}/live`, {
      target: "#timeline",
      swap: "innerHTML",
    });
    line.scrollTop = atEnd ? line.scrollHeight : before;
    if (openId() === id) await renewActs();
  }

  // A matter that was closed, reopened or handed on meanwhile allows other acts: the
  // answer box and the dialogs follow, but never under somebody's hands in a dialog.
  async function renewActs() {
    const old = one("[data-matter]").dataset.acts;
    if (one("#matter-head").dataset.acts === old || one("#matter dialog[open]")) return;
    const writing = Boolean(document.activeElement?.matches("[data-answer]"));
    await window.htmx.ajax("GET", `/inquiries/${openNumber()}`, {
      target: "#matter",
      swap: "innerHTML",
    });
    if (writing) one("[data-answer]")?.focus();
  }

  function openMatter() {
    const split = one(".split");
    if (split) split.dataset.view = openNumber() ? "matter" : "list";
    markOpenRow();
    const line = one("[data-timeline]");
    if (line) line.scrollTop = line.scrollHeight;
  }

  // Back to the list on a small screen: it is still there, scrolled as it was.
  function backToList(event) {
    const split = one(".split");
    if (!split || !rows().length) return;
    event.preventDefault();
    split.dataset.view = "list";
    history.pushState({ htmx: true }, "", `/inquiries?${listQuery()}`);
  }

  function step(by) {
    const list = rows();
    if (!list.length) return;
    const here = list.findIndex((row) => row === document.activeElement);
    const current = list.findIndex((row) => row.hasAttribute("aria-current"));
    const from = here >= 0 ? here : current;
    const next = list[Math.min(list.length - 1, Math.max(0, from + by))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
    if (one(".matter-pane")?.offsetParent) next.click();
  }

  // ---- live events ----

  const HIDDEN_MS = 5 * 60000; // a tab out of sight lets its connection go
  const GATHER_MS = 250; // events in a burst cause one request
  let source = null;
  let missed = false;
  let hiddenTimer = 0;
  const timers = new Map();

  function soon(key, act) {
    if (timers.has(key)) return;
    timers.set(key, setTimeout(() => {
      timers.delete(key);
      act();
    }, GATHER_MS));
  }

  function poke(name, data) {
    const wanted = ["*", name, `${name}:${data}`];
    for (const node of all("[data-live]")) {
      if (!node.dataset.live.split(" ").some((key) => wanted.includes(key))) continue;
      soon(node, () => node.isConnected && window.htmx.trigger(node, "live"));
    }
  }

  async function renewCounts() {
    const answer = await renewed(`/inquiries/counts?${listQuery()}`);
    if (!answer?.ok) return;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    for (const number of all("[data-for]", holder.content)) {
      for (const place of all(`[data-count="${number.dataset.for}"]`)) {
        place.textContent = number.textContent;
      }
    }
  }

  function catchUp() {
    for (const node of all("[data-live]")) soon(node, () => window.htmx.trigger(node, "live"));
    soon("counts", renewCounts);
    if (openId()) renewMatter(openId());
    if (stream() && stream().scrollTop < 8) takeNewRows();
  }

  // What stands on the page is told to be of then, until it is renewed.
  const STALE_MS = 3000; // a restart or a change of networks may be over by then
  const ANSWER_MS = 15000; // what is renewed by itself waits no longer for it
  let staleTimer = 0;

  const staleStrip = () => one("#stale .warning-strip"); // the sandbox has none
  const isRenewed = (node) => Boolean(node?.matches?.("[data-live]"));

  function lost(at) {
    document.body.dataset.liveState = "off";
    staleTimer ||= setTimeout(tellStale, STALE_MS, at);
  }

  function tellStale(at) {
    const strip = staleStrip();
    if (!strip) return;
    const t = at.toLocaleTimeString(document.documentElement.lang, { hour12: false });
    one("span", strip).textContent = word("stale", { t });
    strip.hidden = false;
  }

  function found() {
    clearTimeout(staleTimer);
    staleTimer = 0;
    document.body.dataset.liveState = "on";
    staleStrip()?.toggleAttribute("hidden", true);
  }

  // A server that stands still keeps its connections: only who asks finds out.
  function renewalFailed(event) {
    const { elt, xhr } = event.detail;
    if (!isRenewed(elt)) return false;
    if (!xhr.status || xhr.status >= 502) {
      lost(new Date(Date.now() - (event.type === "htmx:timeout" ? ANSWER_MS : 0)));
    }
    return true;
  }

  const EVENTS = ["review", "broadcast", "daily", "channel", "sandbox", "node"];

  function connect() {
    const root = one("[data-events]");
    if (!root || source) return;
    source = new EventSource(root.dataset.events);
    source.addEventListener("open", () => {
      found();
      if (missed) catchUp();
      missed = false;
    });
    source.addEventListener("error", () => {
      lost(new Date());
      missed = true;
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(connect, 3000 + Math.random() * 4000);
      }
    });
    source.addEventListener("inquiry", (event) => {
      soon(`inquiry ${event.data}`, () => inquiryChanged(event.data));
      soon("counts", renewCounts);
      poke("inquiry", event.data);
    });
    source.addEventListener("attention", () => showToast({ text: word("attention"), tone: "bad" }));
    source.addEventListener("refresh", () => soon("refresh", catchUp));
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        poke(name, event.data);
        if (name !== "sandbox") soon("counts", renewCounts);
      });
    }
  }

  function disconnect() {
    source?.close();
    source = null;
    missed = true;
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(disconnect, HIDDEN_MS);
    else connect();
  });

  // ---- keys ----

  const KEYS = "lianxin.keys";
  const keysOn = () => localStorage.getItem(KEYS) !== "off";

  const ACTS = {
    j: () => step(1),
    k: () => step(-1),
    r: () => one("[data-answer]")?.focus(),
    n: () => one(".nav-new")?.click(),
    "/": () => one("[data-search]")?.focus(),
    "?": () => openDialog("help"),
  };

  function keyPressed(event) {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && typing?.form) {
      event.preventDefault();
      if (!one("[data-send]:disabled", typing.form)) typing.form.requestSubmit();
    } else if (event.key === "Escape") leave(event, typing);
    else if (typing || one("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "?" || keysOn()) press(event);
  }

  function press(event) {
    const act = ACTS[event.key];
    const button = act ? null : one(`[data-key="${CSS.escape(event.key)}"]`);
    if (!act && !button) return;
    event.preventDefault();
    if (act) act();
    else button.click();
  }

  function leave(event, typing) {
    const menu = one("details.menu[open]");
    if (menu) {
      menu.open = false;
      one("summary", menu).focus();
    } else if (typing && !typing.closest("dialog")) typing.blur();
  }

  // ---- wiring ----

  function clicked(event) {
    const target = event.target;
    const opener = target.closest("[data-open]");
    const inserted = target.closest("[data-insert]");
    const undone = target.closest("[data-undo]");
    for (const menu of all("details.menu[open]")) {
      if (!menu.contains(target) || (target.closest("button, a") && !inserted)) menu.open = false;
    }
    if (opener) openDialog(opener.dataset.open);
    else if (target.closest(".back")) backToList(event);
    else if (target.closest("[data-help]")) openDialog("help");
    else if (target.closest("[data-close]")) target.closest("dialog").close();
    else if (target.closest("[data-new-pill]")) takeNewRows();
    else if (target.closest("[data-print]")) window.print();
    else if (undone) undo(undone);
    else if (inserted) {
      insertAtCursor(one("[data-answer]"), inserted.dataset.insert);
      inserted.closest("details").open = false;
    }
  }

  function typed(event) {
    const box = event.target;
    if (box.matches("[data-grow]")) grow(box);
    if (box.matches("[data-answer]")) {
      countAnswer(box);
      drafts.set(box.form.dataset.draft, box.value);
    }
    if (box.matches("[data-count-text]")) countText(box);
    if (box.matches("[data-filter]")) filterList(box);
  }

  function filterList(box) {
    const wanted = box.value.trim().toLowerCase();
    for (const choice of all("[data-insert]", box.parentElement)) {
      choice.hidden = !choice.textContent.toLowerCase().includes(wanted);
    }
  }

  // A form's boxes may stand outside of it (`form="..."`).
  const boxesOf = (every) =>
    [...every.form.elements].filter((box) => box.name === every.dataset.all);

  function checkAll(every) {
    for (const box of boxesOf(every)) box.checked = every.checked;
  }

  // The box for all is ticked only as long as all are: it counts when it is sent.
  function tellAll(changed) {
    for (const every of all(`[data-all="${changed.name}"]`)) {
      if (every.form === changed.form) every.checked = boxesOf(every).every((box) => box.checked);
    }
  }

  // What one of these asks for has to be filled in as long as one of them is ticked.
  function need(box) {
    const { needs } = box.dataset;
    const asking = all(`[data-needs="${needs}"]`, box.form);
    document.getElementById(needs).required = asking.some((one) => one.checked);
  }

  function dress(root) {
    for (const box of all("[data-grow]", root)) if (box.value) grow(box);
    for (const box of all("[data-count-text]", root)) countText(box);
    for (const box of all("[data-answer]", root)) countAnswer(box);
    const ends = root.matches?.("[data-scroll-end]") ? [root] : all("[data-scroll-end]", root);
    for (const end of ends) end.scrollTop = end.scrollHeight;
    one("dialog[data-open-now]", root)?.showModal();
    if (!CSS.supports("selector(::details-content)")) {
      for (const side of all("[data-side]", root)) side.open = side.parentElement.offsetWidth >= 720;
    }
    freshenTimes();
  }

  document.addEventListener("click", clicked);
  document.addEventListener("input", typed);
  document.addEventListener("keydown", keyPressed);

  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("[data-canned]") && event.target.open) {
      one("[data-filter]", event.target).focus();
    }
  }, true);

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-keys-switch]")) localStorage.setItem(KEYS, box.checked ? "on" : "off");
    if (box.matches("[data-all]")) checkAll(box);
    else if (box.matches("input[type=checkbox][name]")) tellAll(box);
    if (box.matches("[data-needs]")) need(box);
    if (box.matches("[data-submit]")) box.form.requestSubmit();
  });

  // A plain form with data-confirm asks first; htmx forms ask through htmx:confirm.
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const text = event.submitter?.dataset.confirm ?? form.dataset.confirm;
    if (form.hasAttribute("hx-post") || form.method !== "post") return;
    if (!text || form.dataset.asked) {
      sendOnce(event, form);
      return;
    }
    event.preventDefault();
    if (!(await ask(text, event.submitter?.matches(".danger")))) return;
    form.dataset.asked = "yes";
    form.requestSubmit(event.submitter);
    delete form.dataset.asked;
  });

  // A double click sends a form once.
  function sendOnce(event, form) {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 3000);
  }

  document.addEventListener("htmx:confirm", async (event) => {
    const text = event.target.dataset?.confirm;
    if (!text) return;
    event.preventDefault();
    if (await ask(text)) event.detail.issueRequest(true);
  });

  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = csrf();
    if (isRenewed(event.detail.elt)) event.detail.timeout = ANSWER_MS;
  });

  // A refused form comes back as 422 with the same partial and its errors.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status !== 422) return;
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  });

  // A live update keeps what somebody has ticked but not yet sent, and what they unfolded.
  let ticked = [];
  let unfolded = [];

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const live = detail.target.matches("[data-live]");
    ticked = live
      ? all("form[id] input:checked", detail.target).map((box) => [box.form.id, box.name, box.value])
      : [];
    unfolded = live ? all("details[id][open]", detail.target).map((side) => side.id) : [];
  });

  function tickAgain(root) {
    for (const [id, name, value] of ticked) {
      const boxes = all("input", document.getElementById(id) ?? root.cloneNode(false));
      const box = boxes.find((other) => other.name === name && other.value === value);
      if (box) box.checked = true;
    }
    ticked = [];
  }

  function unfoldAgain() {
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    unfolded = [];
  }

  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, successful } = event.detail;
    if (successful && isRenewed(elt) && source?.readyState === EventSource.OPEN) found();
    const sent = event.detail.requestConfig?.elt;
    // A preview, which the box itself asks for, sends nothing.
    const form = sent?.matches?.("[data-answer]") ? null : sent?.closest?.("form[data-draft]");
    if (form && event.detail.successful) drafts.delete(form.dataset.draft);
    const cleared = event.detail.elt?.closest?.("form[data-clear]");
    if (cleared && event.detail.successful) cleared.reset();
  });

  document.addEventListener("htmx:afterSettle", (event) => {
    const target = event.detail.target;
    if (target.id === "matter") {
      restoreDraft(target);
      openMatter();
    }
    if (target.id === "stream") markOpenRow();
    tickAgain(target);
    unfoldAgain();
    dress(target);
  });

  document.addEventListener("toast", (event) => showToast(event.detail));
  // The answer's own words are shown where it brings some. Whoever did nothing is told
  // of no failure: what is shown is stale, and says so.
  document.addEventListener("htmx:responseError", (event) => {
    const silent = renewalFailed(event) || event.detail.xhr.getResponseHeader("HX-Trigger");
    if (!silent) showToast({ text: word("failed"), tone: "bad" });
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (!renewalFailed(event)) showToast({ text: word("offline"), tone: "bad" });
  });
  document.addEventListener("htmx:timeout", renewalFailed);

  addEventListener("beforeunload", (event) => {
    if (one("[data-answer]")?.value.trim()) event.preventDefault();
  });

  document.addEventListener("DOMContentLoaded", () => {
    const keysSwitch = one("[data-keys-switch]");
    if (keysSwitch) keysSwitch.checked = keysOn();
    for (const next of all('input[name="next"]')) next.value ||= location.pathname + location.search;
    for (const toast of all("[data-toast]")) fadeLater(toast);
    dress(document);
    openMatter();
    connect();
    setInterval(freshenTimes, 30000);
  });
})();
