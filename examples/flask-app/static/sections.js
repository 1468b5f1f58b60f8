/*
 * A user's sections, kept in this browser by their task ids, and shown as they
 * stand.  One event stream tells of all that have not ended; nothing is polled.
 *
 * A section: {key, title, added, id, ended} and, until it was accepted, {text,
 * instruction}; `key` is its Idempotency-Key, so that sending it again, also after
 * a reload in the middle, never asks twice.  How it stands is not kept: the server
 * knows.
 */
"use strict";

const STORE = "rgov.sections";
const MAX_WATCHED = 50; // of one stream
const COME_BACK_MS = 3000;
const GATHER_MS = 200; // of sections that are accepted one after the other
const WORDS = {
  sending: "Sending",
  queued: "Waiting",
  running: "Being analysed",
  succeeded: "Done",
  failed: "Failed",
  expired: "Too late",
  cancelled: "Cancelled",
  refused: "Not accepted",
  unknown: "Unknown",
};

const byId = (id) => document.getElementById(id);
const status = new Map(); // key -> {state, ..., at: when it was told, ms}
const cards = new Map(); // key -> element
let sections = load();
let stream = null;
let watched = "";
let comeBack = 0;
let gather = 0;
let silence = 0;

/* ---- what is kept ---- */

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(STORE));
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify(sections));
  } catch (error) {
    trouble(`This browser keeps nothing (${error.name}): a reload loses the list.`);
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

const isOpen = (section) => section.id && !section.ended;
const stateOf = (section) => (status.get(section.key) ?? unseen(section)).state;

/* ---- talking to the server ---- */

async function ask(url, options) {
  const answer = await fetch(url, options);
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // A proxy's page, say: the number must do.
  }
  return { ok: answer.ok, code: answer.status, told };
}

async function send(section) {
  note(section, { state: "sending" });
  try {
    const { ok, code, told } = await ask("/analyze_section", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": section.key },
      body: JSON.stringify({
        text: section.text, instruction: section.instruction, async: true,
      }),
    });
    if (!ok) {
      note(section, { state: "refused", detail: told.detail ?? `status ${code}` });
      return;
    }
    section.id = told.task_id;
    delete section.text;
    delete section.instruction;
    save();
    note(section, { state: "queued" });
    clearTimeout(gather);
    gather = setTimeout(watch, GATHER_MS);
  } catch {
    note(section, { state: "refused", detail: "The server cannot be reached." });
  }
}

/* True: the server said how it stands. */
async function look(section) {
  try {
    const { ok, code, told } = await ask(`/task_status/${section.id}`);
    if (ok || code === 410) {
      note(section, { ...told, gone: code === 410 });
    } else if (code === 404 || code === 400) {
      section.ended = true;
      save();
      note(section, { state: "unknown" });
    } else {
      trouble(told.detail ?? `The server answered with status ${code}; trying again.`);
      return false;
    }
    return true;
  } catch {
    trouble("The server cannot be reached; trying again.");
    return false;
  }
}

async function cancel(section) {
  try {
    const { ok, told } = await ask(`/task_status/${section.id}`, { method: "DELETE" });
    if (ok) note(section, told);
    else trouble(told.detail ?? "It could not be cancelled.");
  } catch {
    trouble("The server cannot be reached: nothing was cancelled.");
  }
}

/* ---- the stream ---- */

function watch() {
  const ids = sections.filter(isOpen).slice(0, MAX_WATCHED).map((s) => s.id);
  if (ids.join() === watched && stream) return;
  stop();
  watched = ids.join();
  if (ids.length === 0) return;
  stream = new EventSource(`/task_events/${watched}`);
  expectWord("The server has not answered yet; this goes on when it does.");
  stream.addEventListener("status", (event) => {
    trouble("");
    const told = JSON.parse(event.data);
    const section = sections.find((s) => s.id === told.task_id);
    if (section) note(section, told);
  });
  stream.addEventListener("end", () => {
    stop();
    watch();
  });
  stream.addEventListener("away", (event) => trouble(JSON.parse(event.data).detail));
  stream.addEventListener("open", () => {
    clearTimeout(silence);
    trouble("");
  });
  stream.addEventListener("error", lost);
}

/* Says so, unless the stream opens soon. */
function expectWord(otherwise) {
  clearTimeout(silence);
  silence = setTimeout(() => trouble(otherwise), COME_BACK_MS);
}

function stop() {
  clearTimeout(comeBack);
  clearTimeout(silence);
  stream?.close();
  stream = null;
  watched = "";
}

/* The browser comes back by itself when a stream just ends, or the server is not
 * there; not after an error's status, which may be about one of the ids. */
function lost() {
  if (stream.readyState !== EventSource.CLOSED) {
    expectWord("The connection was lost; trying again.");
    return;
  }
  stop();
  comeBack = setTimeout(() => lookAtAll(sections.filter(isOpen)), COME_BACK_MS);
}

/* Each by itself, then together again in a stream. */
async function lookAtAll(asked) {
  const found = await Promise.all(asked.map(look));
  const missed = asked.filter((_, i) => !found[i]);
  if (missed.length > 0) {
    setTimeout(() => lookAtAll(missed), COME_BACK_MS);
    return;
  }
  trouble("");
  watch();
}

/* ---- what is shown ---- */

function note(section, told) {
  const before = status.get(section.key)?.state;
  status.set(section.key, { ...told, at: Date.now() });
  if (told.ready && !section.ended) {
    section.ended = true;
    save();
  }
  if (before && before !== told.state && before !== "sending") {
    byId("news").textContent = `${section.title}: ${WORDS[told.state]}`;
  }
  show(section);
  summarize();
}

function trouble(words) {
  const line = byId("trouble");
  if (line.textContent !== words) line.textContent = words;
  line.hidden = words === "";
}

function seconds(s) {
  if (s < 90) return `${Math.max(1, Math.round(s))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${Math.round(s / 3600)} h`;
}

function waitingWords(now, passed) {
  if (now.detail) return now.detail;
  if (!now.position) return "Taken in; its place is not known yet.";
  const left = (now.predicted_wait ?? 0) - passed;
  const when = left > 0.5 ? `about ${seconds(left)} to go` : "it starts any moment";
  return `Place ${now.position} in the queue, ${when}.`;
}

function failureWords(now) {
  const error = now.error ?? {};
  const code = error.code || error.reason || "no reason was told";
  const number = error.http_status ? `, status ${error.http_status}` : "";
  return `${error.message || "The model's service answered with an error"} (${code}${number}).`;
}

function placeWords(now, passed) {
  switch (now.state) {
  case "sending":
    return "On its way to the server.";
  case "queued":
    return waitingWords(now, passed);
  case "running": {
    const since = now.started ? Date.now() / 1000 - now.started : passed;
    const again = now.runs > 1 ? " Begun anew after a restart." : "";
    return `With the model for ${seconds(since)}.${again}`;
  }
  case "succeeded":
    return now.gone
      ? "It was done, but its result was kept for a while and then removed."
      : `Done ${seconds(now.ended - now.submitted)} after you sent it.`;
  case "failed":
    return failureWords(now);
  case "expired":
    return "Its time was over before the model could answer.";
  case "cancelled":
    return "You cancelled it; nothing more will come.";
  case "refused":
    return now.detail;
  default:
    return "The server does not know it any more.";
  }
}

function setText(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function unseen(section) {
  const asked = { state: "queued", detail: "Asking how it stands.", at: Date.now() };
  return section.id ? asked : { state: "sending", at: Date.now() };
}

function show(section) {
  const card = cards.get(section.key);
  const now = status.get(section.key) ?? unseen(section);
  const find = (name) => card.querySelector(`.${name}`);
  card.dataset.state = now.state;
  setText(find("state"), WORDS[now.state]);
  setText(find("place"), placeWords(now, (Date.now() - now.at) / 1000));
  setText(find("result"), now.result?.analysis ?? "");
  find("result").hidden = !now.result;
  find("cancel").hidden = !section.id || section.ended;
  find("again").hidden = now.state !== "refused";
  find("forget").hidden = !section.ended && now.state !== "refused";
}

function summarize() {
  const count = (...states) => sections.filter((s) => states.includes(stateOf(s))).length;
  const parts = [
    [count("running"), "being analysed"],
    [count("queued", "sending"), "waiting"],
    [count("succeeded"), "done"],
    [count("failed", "expired", "refused", "unknown"), "failed"],
    [count("cancelled"), "cancelled"],
  ];
  const words = parts.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`);
  setText(byId("summary"), words.join(" · ") || "No sections yet");
  byId("empty").hidden = sections.length > 0;
  byId("forget-all").hidden = !sections.some((s) => s.ended);
}

function addCard(section) {
  const copy = byId("section-template").content.cloneNode(true);
  const card = copy.querySelector(".card");
  card.querySelector(".title").textContent = section.title;
  for (const [name, act] of [["cancel", cancel], ["again", send], ["forget", forget]]) {
    const button = card.querySelector(`.${name}`);
    button.setAttribute("aria-label", `${button.textContent}: ${section.title}`);
    button.addEventListener("click", () => act(section));
  }
  cards.set(section.key, card);
  byId("sections").prepend(card); // the newest first
  show(section);
}

function forget(section) {
  sections = sections.filter((s) => s !== section);
  cards.get(section.key).remove();
  cards.delete(section.key);
  status.delete(section.key);
  save();
  summarize();
}

/* ---- what the user does ---- */

function take(event) {
  event.preventDefault();
  const texts = byId("text").value.split(/\n\s*\n/).map((t) => t.trim()).filter(Boolean);
  const instruction = byId("instruction").value.trim();
  const taken = texts.map((text) => ({
    key: newKey(),
    title: text.length > 80 ? `${text.slice(0, 79)}…` : text,
    added: Date.now(),
    id: null,
    ended: false,
    text,
    instruction,
  }));
  sections.push(...taken);
  save();
  taken.forEach(addCard);
  byId("form").reset();
  byId("text").focus();
  summarize();
  sendAll(taken);
}

/* One after the other, in their order: that is their order in the queue. */
async function sendAll(taken) {
  for (const section of taken) await send(section);
}

function begin() {
  sections.forEach(addCard);
  byId("form").addEventListener("submit", take);
  byId("forget-all").addEventListener("click", () =>
    sections.filter((s) => s.ended).forEach(forget));
  setInterval(() => sections.filter((s) => !s.ended).forEach(show), 1000);
  summarize();
  // The stream tells of those that have not ended; the others are asked for once.
  watch();
  const ended = sections.filter((s) => s.id && s.ended);
  if (ended.length > 0) lookAtAll(ended);
  sendAll(sections.filter((s) => !s.id));
}

begin();
