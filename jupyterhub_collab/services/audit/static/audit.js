// Search works without this. It says that a search is under way, and shows new events as they come.
"use strict";

const status = document.getElementById("status");
const say = (text) => { if (status) status.textContent = text; };

for (const form of document.querySelectorAll("form.search")) {
  form.addEventListener("submit", (event) => {
    // Forms send all fields; addresses that people share should hold what was filled in.
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    const isFile = event.submitter && event.submitter.name === "format";
    if (!isFile) {
      say("Searching …");
      document.querySelector("main").setAttribute("aria-busy", "true");
    }
    setTimeout(() => { for (const field of form.elements) field.disabled = false; }, 0);
  });
}
addEventListener("pageshow", () => {
  document.querySelector("main").removeAttribute("aria-busy");
  if (status && status.textContent === "Searching …") say("");
});

const button = document.getElementById("follow");
if (button) {
  const KEPT = 200;
  const body = document.querySelector("#events tbody");
  const table = document.getElementById("events");
  const empty = document.getElementById("nothing");
  let source = null, fresh = 0, told = 0;

  const cell = (row, label, text, kind) => {
    const made = document.createElement(kind || "td");
    made.dataset.label = label;
    made.textContent = text || "";
    row.append(made);
    return made;
  };
  const name = (event, part) => {
    if (event.people && event.people[part]) return event.people[part].name || "(not named)";
    return (event.erased || []).includes(part) ? "(erased)" : "";
  };
  const add = (event) => {
    const row = document.createElement("tr");
    row.className = "fresh";
    const link = document.createElement("a");
    link.href = button.dataset.event + encodeURIComponent(event.sequence);
    link.textContent = event.stored.slice(0, 19).replace("T", " ");
    const head = cell(row, "When", "", "th");
    head.scope = "row";
    head.append(link);
    cell(row, "What", event.verb);
    const reason = event.reason ? ` (${event.reason})` : "";
    cell(row, "Outcome", event.outcome + reason).className = `outcome-${event.outcome}`;
    const actor = name(event, "actor");
    const to = name(event, "recipient");
    cell(row, "Who", name(event, "subject") + (actor ? ` by ${actor}` : "") + (to ? ` to ${to}` : ""));
    cell(row, "Team", event.team);
    cell(row, "Contest", event.contest);
    cell(row, "Object", [...(event.datasets || []), event.thing].filter(Boolean).join(", "));
    body.prepend(row);
    while (body.rows.length > KEPT) body.lastElementChild.remove();
    table.hidden = false;
    if (empty) empty.hidden = true;
    fresh += 1;
  };
  const stop = (text) => {
    if (source) source.close();
    source = null;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Follow live";
    say(text);
  };
  // A screen reader is told now and then, not of each event.
  setInterval(() => {
    if (source && fresh !== told) { told = fresh; say(`${fresh} new ${fresh === 1 ? "event" : "events"} since you began to follow.`); }
  }, 1000);
  button.hidden = false;
  button.addEventListener("click", () => {
    if (source) { stop("No longer following."); return; }
    fresh = told = 0;
    source = new EventSource(button.dataset.live);
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop following";
    say("Following. New events come on top.");
    source.addEventListener("audit", (message) => add(JSON.parse(message.data)));
    source.addEventListener("end", (message) => stop(JSON.parse(message.data).message));
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) stop("The log cannot be followed just now. Load the page again.");
      else if (source) say("The connection was lost; trying again.");
    };
    source.onopen = () => { if (fresh || told) say("Following again."); };
  });
}
