// The status page: the fleet of `api/v1/apps`, kept up to date by `api/v1/events`.
//
// Level-triggered: an event carries a complete item, and everything is read again after each (re)connection, so that a
// lost event costs only time. Text from the server becomes text nodes, never markup.

// ---------------------------------------------------------------------------------------------------- small tools

const byId = (id) => document.getElementById(id);

// Characters that act on the screen, such as U+202E, which turns text around, are shown as escapes.
const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
  (one) => `\\u{${one.codePointAt(0).toString(16)}}`);

/** An element. Strings among the children become text nodes; `null` and `false` are left out. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes);
  const shown = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...shown.map((child) => (child instanceof Node ? child : visible(String(child)))));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, attributes);
  element.append(...children);
  return element;
}

function fill(element, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
}

/** Writes only on a difference, to spare layout and screen readers. */
function say(element, words) {
  const text = visible(String(words));
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

// ------------------------------------------------------------------------------------------------------------ time

/** Milliseconds by which the daemon's clock is ahead of this one, from the `Date` of its answers. */
let skew = 0;
const now = () => Date.now() + skew;

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const clock = (at) => clockFormat.format(at);
const yearFormat = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const day = (at) => (new Date(at).getFullYear() === new Date(now()).getFullYear() ? dayFormat : yearFormat).format(at);
const moment = (at) => (Math.abs(at - now()) < 12 * 3600e3 ? clock(at) : `${day(at)}, ${clock(at)}`);

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds}\u00a0s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)}\u00a0h`;
  if (seconds < 2 * 365 * 86400) return `${Math.round(seconds / 86400)}\u00a0days`;
  return `${Math.round(seconds / (365.25 * 86400))}\u00a0years`;
}

const WORDS = {
  age: (at) => span(now() - at),
  ago: (at) => (now() - at < 2000 ? "just now" : `${span(now() - at)} ago`),
  in: (at) => (at - now() < 1000 ? "due" : `in ${span(at - now())}`),
  left: (at) => span(at - now()),
};

/** A time that `tickTimes` keeps up to date. */
function when(iso, how) {
  const at = Date.parse(iso);
  return make("time", { datetime: iso, "data-how": how, title: fullFormat.format(at) }, WORDS[how](at));
}

function tickTimes() {
  for (const element of document.querySelectorAll("time[data-how]")) {
    say(element, WORDS[element.dataset.how](Date.parse(element.dateTime)));
  }
}

// ----------------------------------------------------------------------------------------------------------- words

/** The groups of apps, as the daemon names them, each with one shape and colour, in the order of the page. */
const TONES = [
  { tone: "ok", group: "Settled", name: "Settled", verb: ["is settled", "are settled"] },
  { tone: "busy", group: "InProgress", name: "In progress", verb: ["is in progress", "are in progress"] },
  { tone: "held", group: "Held", name: "Held", verb: ["is held", "are held"] },
  { tone: "unknown", group: "Unknown", name: "Not known", verb: ["is not known", "are not known"] },
  { tone: "warn", group: "InTrouble", name: "In trouble", verb: ["is in trouble", "are in trouble"] },
  { tone: "bad", group: "NeedsPerson", name: "Needs a person", verb: ["needs a person", "need a person"] },
];
const SEVERITY = { bad: 0, warn: 1, unknown: 2, busy: 3, held: 4, ok: 5 };
const toneOfGroup = (group) => TONES.find((one) => one.group === group)?.tone ?? "unknown";

const STATES = ["Running", "Stopped", "Creating", "Suspended", "Missing", "Unknown"];

function condition(item, type) {
  return item.status?.conditions?.find((one) => one.type === type);
}

function becauseOf(status, spec) {
  const because = status.desiredBecause;
  if (because === "state") return "of spec.state";
  if (because === "suspend") return "of its manifest, which also suspends it: the operator sends no call";
  if (because === "override" && spec?.override) {
    const { until, reason, by } = spec.override;
    const notes = [reason, by && `by ${by}`].filter(Boolean).join(", ");
    return `of spec.override until ${moment(Date.parse(until))}${notes && ` (${notes})`}`;
  }
  return because ? `of ${because}` : "";
}

// ------------------------------------------------------------------------------------------------------- the fleet

/** name -> row: the values of an item for the list, extracted once. */
const rows = new Map();
/** The rows in view, sorted. */
let view = [];
let daemon = null;
let loaded = false;

function rowOf(item) {
  const { metadata = {}, status = {}, spec } = item;
  const ready = condition(item, "Ready");
  const tone = toneOfGroup(status.group);
  return {
    item, tone, labelled: metadata.labels ?? {}, name: metadata.name, desired: status.desired ?? "–", observed: status.observed ?? "Unknown",
    // A settled app shows no message: its reason is enough.
    reason: ready?.reason ?? "Unknown", why: ready?.message ?? "", brief: tone === "ok" ? "" : ready?.message ?? "",
    labels: Object.entries(metadata.labels ?? {}).map(([key, value]) => `${key}=${value}`).join("  "),
    next: status.nextAttemptAt ?? status.nextTransition?.at ?? (tone === "ok" ? null : status.nextLookAt) ?? null, since: ready?.lastTransitionTime ?? null, hay: null,
    id: spec?.appId ?? "",
  };
}

/** The text that a search reads; built for the first search. */
function hayOf(row) {
  const file = row.item.status?.source?.file ?? "";
  row.hay ??= [row.name, row.id, row.labels, file, row.desired, row.observed, row.reason, row.why].join("\n").toLowerCase();
  return row.hay;
}

const SORTS = {
  group: { title: "Trouble", by: (row) => SEVERITY[row.tone], hidden: true },
  name: { title: "App", by: (row) => row.name },
  desired: { title: "Desired", by: (row) => row.desired },
  observed: { title: "Observed", by: (row) => row.observed },
  reason: { title: "Reason", by: (row) => `${SEVERITY[row.tone]} ${row.reason}` },
  why: { title: "Why", by: null },
  next: { title: "Next", by: (row) => row.next ?? "~" },
  since: { title: "Since", by: (row) => row.since ?? "" },
};

const FACETS = { stands: (row) => row.tone, desired: (row) => row.desired, observed: (row) => row.observed, reason: (row) => row.reason };
/** Maximum number of labels with a button; the search finds the others. */
const MOST_LABELS = 10;
const hasLabel = (row, label) => { const [key, ...value] = label.split("="); return row.labelled[key] === value.join("="); };

const viewOptions = { words: "", sort: "group", down: false, by: "", undeclared: false, stands: new Set(), desired: new Set(), observed: new Set(), reason: new Set(), label: new Set() };

/** The filters are part of the address, so that a view can be shared. */
function readAddress() {
  const query = new URLSearchParams(location.search);
  viewOptions.words = query.get("q") ?? "";
  viewOptions.sort = SORTS[query.get("sort")]?.by ? query.get("sort") : "group";
  viewOptions.by = query.get("by") ?? "";
  viewOptions.undeclared = query.has("undeclared");
  viewOptions.label = new Set(query.getAll("label"));
  viewOptions.down = query.get("order") === "desc";
  for (const facet of Object.keys(FACETS)) viewOptions[facet] = new Set(query.getAll(facet));
}

function writeAddress() {
  const query = new URLSearchParams();
  if (viewOptions.words) query.set("q", viewOptions.words);
  if (viewOptions.sort !== "group") query.set("sort", viewOptions.sort);
  if (viewOptions.by) query.set("by", viewOptions.by);
  if (viewOptions.undeclared) query.set("undeclared", "");
  for (const label of viewOptions.label) query.append("label", label);
  if (viewOptions.down) query.set("order", "desc");
  for (const facet of Object.keys(FACETS)) for (const value of viewOptions[facet]) query.append(facet, value);
  const text = query.toString();
  history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
}

const filtered = () => viewOptions.words.trim() !== "" || viewOptions.undeclared || viewOptions.label.size > 0 || Object.keys(FACETS).some((facet) => viewOptions[facet].size > 0);

function choose() {
  const words = viewOptions.words.toLowerCase().split(/\s+/).filter(Boolean);
  const facets = Object.entries(FACETS).filter(([facet]) => viewOptions[facet].size > 0);
  const chosen = [];
  for (const row of rows.values()) {
    if (facets.every(([facet, of]) => viewOptions[facet].has(of(row))) && [...viewOptions.label].every((label) => hasLabel(row, label)) && words.every((word) => hayOf(row).includes(word))) {
      chosen.push(row);
    }
  }
  const { by } = SORTS[viewOptions.sort];
  const keyed = chosen.map((row) => [by(row), row]);
  const turn = viewOptions.down ? -1 : 1;
  keyed.sort(([a, one], [b, other]) => turn * compare(a, b) || compare(one.name, other.name));
  view = keyed.map(([, row]) => row);
  if (viewOptions.by) view = underTitles(view, viewOptions.by);
}

/** The rows below a title for each value of a label; rows without it come last. */
function underTitles(sorted, key) {
  const parts = new Map();
  for (const row of sorted) {
    const value = row.labelled[key];
    if (!parts.has(value)) parts.set(value, []);
    parts.get(value).push(row);
  }
  const values = [...parts.keys()].sort((a, b) => (a === undefined) - (b === undefined) || compare(a, b));
  return values.flatMap((value) => {
    const members = parts.get(value);
    const tones = new Map();
    for (const row of members) tones.set(row.tone, (tones.get(row.tone) ?? 0) + 1);
    const counts = TONES.filter(({ tone }) => tones.has(tone)).reverse().map(({ tone, name }) => `${tones.get(tone)} ${name.toLowerCase()}`);
    const title = value === undefined ? `no ${key}` : `${key}=${value}`;
    return [{ title, counts: `${plural(members.length, "app", "apps")}: ${counts.join(", ")}` }, ...members];
  });
}

// ------------------------------------------------------------------------------------------- drawing, once a frame

let wanted = false;
/** Draws a burst of events once, and does not sort a large fleet for each frame. */
function refresh() {
  if (wanted) return;
  wanted = true;
  const draw = () => { if (wanted) { wanted = false; show(); } };
  const soon = () => { if (document.hidden) setTimeout(draw, 250); else requestAnimationFrame(draw); };
  const rest = lastShow + 120 - performance.now();
  if (rest > 0 && rows.size > 500) setTimeout(soon, rest); else soon();
}

let lastShow = -1000;
function show() {
  const start = performance.now();
  choose();
  showFleet();
  showProgress();
  showLabels();
  showSign();
  showList();
  showDaemon();
  showDetail();
  lastShow = performance.now();
  // For the browser's tools and the test; only the last entry.
  performance.clearMeasures("show");
  performance.measure("show", { start, end: lastShow });
}

const toneMark = (tone) => make("span", { class: "tone", "data-tone": tone, "aria-hidden": "true" });

function countBy(of) {
  const counts = new Map();
  for (const row of rows.values()) counts.set(of(row), (counts.get(of(row)) ?? 0) + 1);
  return counts;
}

function showFleet() {
  const tones = countBy(FACETS.stands);
  say(byId("fleet_verdict"), verdict(tones));
  const bar = byId("fleet_bar");
  bar.hidden = byId("group_chips").hidden = rows.size === 0;
  const present = TONES.filter(({ tone }) => tones.get(tone));
  const shape = present.map(({ tone }) => `${tone}${tones.get(tone)}`).join();
  if (bar.dataset.shape !== shape) {
    bar.dataset.shape = shape;
    bar.replaceChildren(...present.map(({ tone }) => {
      const part = make("div", { "data-tone": tone });
      part.style.flexGrow = tones.get(tone);
      return part;
    }));
  }
  const groups = TONES.filter(({ tone }) => ["ok", "busy", "bad"].includes(tone) || tones.get(tone) || viewOptions.stands.has(tone));
  showChips("group_chips", "stands", groups.map(({ tone, name }) => ({ value: tone, name, tone, count: tones.get(tone) ?? 0 })), true);
  const undeclared = byId("undeclared_button");
  const count = daemon?.undeclared?.count ?? 0;
  undeclared.hidden = count === 0 && !viewOptions.undeclared;
  say(byId("undeclared_count"), count.toLocaleString());
  mark(undeclared, "aria-pressed", viewOptions.undeclared ? "true" : "false");
  for (const [facet, order] of [["desired", STATES], ["observed", STATES], ["reason", null]]) {
    const counts = countBy(FACETS[facet]);
    for (const value of viewOptions[facet]) if (!counts.has(value)) counts.set(value, 0);
    const values = [...counts.keys()].sort((a, b) => (order ? order.indexOf(a) - order.indexOf(b) : counts.get(b) - counts.get(a)) || compare(a, b));
    showChips(`${facet}_chips`, facet, values.map((value) => ({ value, name: value === "–" ? "Not known" : value, count: counts.get(value) })), false);
    byId(`${facet}_chips`).parentElement.hidden = values.length === 0;
  }
}

/** The work that takes minutes: a bulk of calls, the first list. */
function showProgress() {
  const box = byId("progress_list");
  const work = daemon?.progress ?? [];
  box.hidden = work.length === 0;
  const shape = JSON.stringify(work);
  if (box.dataset.shape === shape) return;
  box.dataset.shape = shape;
  const tasks = { list: "First list of apps", stop: "Stops", start: "Starts", restart: "Restarts", calls: "Calls" };
  box.replaceChildren(...work.map(({ task, done, accepted, total, endsAt }) => {
    const share = make("div", {});
    share.style.width = `${Math.round((100 * Math.max(done, accepted ?? 0)) / Math.max(1, total))}%`;
    const words = `${tasks[task] ?? task}: ${done.toLocaleString()} of ${total.toLocaleString()}${accepted > done ? ` (${accepted.toLocaleString()} accepted)` : ""}`;
    return make("div", { class: "progress" },
      make("div", { class: "gauge_text" }, make("span", {}, words), make("span", {}, endsAt && Date.parse(endsAt) > now() && ["about ", when(endsAt, "left"), " left"])),
      make("div", { class: "gauge_bar", role: "progressbar", "aria-label": words, "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done }, share));
  }));
}

/** The most common labels as filters, and their keys for grouping. */
function showLabels() {
  const counts = new Map();
  const keys = new Set();
  for (const row of rows.values()) {
    for (const [key, value] of Object.entries(row.labelled)) {
      keys.add(key);
      const label = `${key}=${value}`;
      counts.set(label, (counts.get(label) ?? 0) + 1);
    }
  }
  const common = [...counts].sort((a, b) => b[1] - a[1] || compare(a[0], b[0])).slice(0, MOST_LABELS).map(([label]) => label);
  const labels = [...new Set([...common, ...viewOptions.label])].sort();
  showChips("label_chips", "label", labels.map((label) => ({ value: label, name: label, count: counts.get(label) ?? 0 })), false);
  byId("label_chips").parentElement.hidden = labels.length === 0;
  const select = byId("by_select");
  const wanted = ["", ...[...keys].sort()];
  if (viewOptions.by && !keys.has(viewOptions.by)) wanted.push(viewOptions.by);
  select.parentElement.hidden = wanted.length === 1;
  const shape = wanted.join("\n");
  if (select.dataset.shape !== shape) {
    select.dataset.shape = shape;
    select.replaceChildren(...wanted.map((key) => make("option", { value: key }, key ? `Group by ${key}` : "No groups")));
  }
  select.value = viewOptions.by;
}

/** Shows failures in the title and the icon, so that a background tab shows them. */
function showSign() {
  const tones = countBy(FACETS.stands);
  const [bad, warn] = [tones.get("bad") ?? 0, tones.get("warn") ?? 0];
  const sign = link === "lost" ? "Disconnected" : bad > 0 ? `${bad} ${bad === 1 ? "needs" : "need"} a person` : warn > 0 ? `${warn} in trouble` : "";
  const title = [sign, open, "campos-operator"].filter(Boolean).join(" · ");
  if (document.title !== title) document.title = title;
  const colour = link === "lost" ? "5b6470" : bad > 0 ? "b3261e" : warn > 0 ? "8f5200" : "0f766e";
  const icon = document.querySelector("link[rel=icon]");
  const address = icon.href.replace(/%23[0-9a-f]{6}/g, `%23${colour}`);
  if (icon.href !== address) icon.href = address;
}

function verdict(tones) {
  if (!loaded) return "Loading …";
  const undeclared = daemon?.undeclared?.count ?? 0;
  if (rows.size === 0) return undeclared > 0 ? `${plural(undeclared, "app is", "apps are")} not declared.` : "No apps are declared.";
  const good = tones.get("ok") ?? 0;
  if (good === rows.size) return rows.size === 1 ? "The one app is settled." : `All ${rows.size.toLocaleString()} apps are settled.`;
  const others = TONES.filter(({ tone }) => tone !== "ok" && tones.get(tone)).reverse();
  const parts = others.map(({ tone, verb }) => `${tones.get(tone).toLocaleString()} ${verb[tones.get(tone) === 1 ? 0 : 1]}`);
  return `${good.toLocaleString()} of ${plural(rows.size, "app is", "apps are")} settled; ${parts.join(", ")}.`;
}

/** Keeps the buttons, so that the focus stays. */
function showChips(id, facet, chips, big) {
  const box = byId(id);
  const known = new Map([...box.children].map((button) => [button.dataset.value, button]));
  const buttons = chips.map(({ value, name, tone, count }) => {
    let button = known.get(value);
    if (!button) {
      const number = make("span", { class: "number" });
      button = make("button", { type: "button", "data-value": value }, ...(big ? [number, toneMark(tone), name] : [name, number]));
      button.addEventListener("click", () => {
        if (!viewOptions[facet].delete(value)) viewOptions[facet].add(value);
        changed();
      });
    }
    say(button.querySelector(".number"), count.toLocaleString());
    mark(button, "aria-pressed", viewOptions[facet].has(value) ? "true" : "false");
    mark(button, "data-none", count === 0 ? "" : null);
    return button;
  });
  if (buttons.length !== box.children.length || buttons.some((button, at) => box.children[at] !== button)) {
    const focused = document.activeElement;
    box.replaceChildren(...buttons);
    if (box.contains(focused)) focused.focus();
  }
}

/** Shows another view after a change of filters or order. */
function changed() {
  writeAddress();
  active = null;
  wanted = false;
  const top = byId("list_section").offsetTop;
  if (scrollY > top) scrollTo(0, top);
  show();
  const count = view.filter((row) => row.name).length;
  speak(count === rows.size ? `All ${count} apps are shown` : `${plural(count, "app", "apps")} of ${rows.size} shown`);
}

let speaking = 0;
/** Announces a text to screen readers, after the typing ends. */
function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => say(byId("spoken_text"), text), 600);
}

// -------------------------------------------------------------------------------------------------------- the list

const table = byId("list_table");
const body = byId("list_rows");
/** name -> its element, for the rows on the screen. */
const drawn = new Map();
/** The row from which arrows move. */
let active = null;

function buildHead() {
  for (const [key, { title, by, hidden }] of Object.entries(SORTS)) {
    if (hidden) {
      byId("sort_select").append(make("option", { value: key }, "Trouble first"));
      continue;
    }
    const cell = make("div", { role: "columnheader", class: key });
    if (by) {
      const button = make("button", { type: "button" }, title);
      button.addEventListener("click", () => {
        // Up, down, and back to the default order.
        const next = viewOptions.sort !== key ? [key, false] : !viewOptions.down ? [key, true] : ["group", false];
        [viewOptions.sort, viewOptions.down] = next;
        changed();
      });
      // A phone sorts by the select; its headings are for screen readers only.
      cell.append(button, make("span", { class: "plain" }, title));
      byId("sort_select").append(make("option", { value: key }, `Sort by ${title.toLowerCase()}`));
    } else {
      cell.append(make("span", {}, title));
    }
    byId("list_head").append(cell);
  }
}

function showHead() {
  for (const cell of byId("list_head").children) {
    const sorted = cell.className === viewOptions.sort ? (viewOptions.down ? "descending" : "ascending") : null;
    mark(cell, "aria-sort", sorted);
  }
  byId("sort_select").value = viewOptions.sort;
}

function showList() {
  if (viewOptions.undeclared) view = [];
  table.hidden = view.length === 0;
  const shown = view.filter((row) => !row.title).length;
  const count = viewOptions.undeclared ? plural(daemon?.undeclared?.count ?? 0, "undeclared app", "undeclared apps")
    : filtered() ? `${shown.toLocaleString()} of ${rows.size.toLocaleString()}` : plural(rows.size, "app", "apps");
  say(byId("list_count"), loaded ? count : "");
  showUndeclared();
  byId("clear_button").hidden = !filtered();
  mark(table, "aria-rowcount", view.length + 1);
  showHead();
  showRows();
  showBlank();
}

function showUndeclared() {
  const box = byId("undeclared_list");
  box.hidden = !viewOptions.undeclared;
  if (box.hidden) return;
  const { count = 0, apps = [] } = daemon?.undeclared ?? {};
  const shape = JSON.stringify([count, apps]);
  if (box.dataset.shape === shape) return;
  box.dataset.shape = shape;
  box.replaceChildren(
    make("p", {}, count === 0 ? "Every app of the account is declared." : ["No manifest declares these apps, so the operator does not change them. Generate manifests with: ", code("campos-operator import")]),
    make("ul", {}, ...apps.map((app) => make("li", {}, make("b", {}, app.name ?? "no name"), " ", make("code", {}, app.appId)))),
    ...(count > apps.length ? [make("p", {}, `and ${(count - apps.length).toLocaleString()} more: `, code("campos-operator get --undeclared"))] : []));
}

const px = (name) => parseFloat(getComputedStyle(document.documentElement).getPropertyValue(name));
let rowHeight = px("--row");
/** Height of the parts that stick to the top of the window above the rows. */
const stuck = () => px("--tools") + (matchMedia("(max-width: 720px)").matches ? 0 : 36);

let listTop = 0;
function showRows() {
  body.style.height = `${view.length * rowHeight}px`;
  listTop = body.getBoundingClientRect().top + scrollY;
  placeRows();
}

/** The visible rows, some above and below, and the row with the focus. */
function placeRows() {
  const first = Math.max(0, Math.floor((scrollY - listTop) / rowHeight) - 8);
  const last = Math.min(view.length, Math.ceil((scrollY + innerHeight - listTop) / rowHeight) + 8);
  const keep = new Set();
  const put = (index) => {
    const row = view[index];
    if (row.title) return putTitle(row, index, keep);
    keep.add(row.name);
    let element = drawn.get(row.name);
    if (!element) drawn.set(row.name, element = newRow(row.name));
    place(element, row, index);
    if (!element.isConnected) body.append(element);
  };
  for (let index = first; index < last; index += 1) put(index);
  const focused = body.contains(document.activeElement) ? document.activeElement.closest("[role=row]").dataset.name : null;
  if (focused && !keep.has(focused)) {
    const index = view.findIndex((row) => row.name === focused);
    if (index >= 0) put(index);
  }
  for (const [name, element] of drawn) if (!keep.has(name)) { element.remove(); drawn.delete(name); }
  inOrder();
}

/** Places a title between rows. The key contains a space, so that it differs from every app name. */
function putTitle({ title, counts }, index, keep) {
  const key = `title ${title}`;
  keep.add(key);
  let element = drawn.get(key);
  if (!element) {
    element = make("div", { role: "row", class: "title" }, make("div", { role: "cell" }, make("b", {}, title), " ", make("span", { class: "labels" })));
    drawn.set(key, element);
  }
  if (element.index !== index || element.height !== rowHeight) {
    element.index = index;
    element.height = rowHeight;
    element.style.transform = `translateY(${index * rowHeight}px)`;
    mark(element, "aria-rowindex", index + 2);
  }
  say(element.querySelector(".labels"), counts);
  if (!element.isConnected) body.append(element);
}

/** Screen readers and the tab key follow the order of the elements, not where they are painted. */
function inOrder() {
  let previous = null;
  const sorted = [...drawn.values()].sort((a, b) => a.index - b.index);
  if (sorted.every((element, at) => body.children[at] === element)) return;
  for (const element of sorted) {
    const wantedNext = previous ? previous.nextSibling : body.firstChild;
    // An element loses the focus when it is moved, so the others are moved around it.
    if (wantedNext !== element && !element.contains(document.activeElement)) body.insertBefore(element, wantedNext);
    previous = element;
  }
}

function newRow(name) {
  const link = make("a", { href: `#${encodeURIComponent(name)}` }, name);
  const cell = (kind, ...children) => make("div", { role: "cell", class: kind }, ...children);
  const badge = make("span", { class: "badge" }, toneMark("unknown"), make("span"));
  const element = make("div", { role: "row", "data-name": name },
    cell("name", link, make("span", { class: "labels" })),
    cell("desired", make("span", { class: "tag" }, "Desired "), make("span")),
    cell("observed", make("span", { class: "tag" }, "Observed "), make("span")),
    cell("reason", badge), cell("why"), cell("next"), cell("since"));
  const find = (selector) => element.querySelector(selector);
  element.parts = {
    labels: find(".labels"), desired: find(".desired :last-child"), observed: find(".observed :last-child"), badge,
    shape: badge.firstChild, reason: badge.lastChild, why: find(".why"), next: find(".next"), since: find(".since"),
  };
  return element;
}

function place(element, row, index) {
  if (element.index !== index || element.height !== rowHeight) {
    element.index = index;
    element.height = rowHeight;
    element.style.transform = `translateY(${index * rowHeight}px)`;
    mark(element, "aria-rowindex", index + 2);
  }
  mark(element, "data-open", row.name === open ? "" : null);
  if (element.row === row) return;
  element.row = row;
  const { parts } = element;
  const { status = {} } = row.item;
  say(parts.labels, row.labels);
  say(parts.desired, row.desired);
  say(parts.observed, row.observed);
  parts.observed.className = row.desired !== row.observed && row.desired !== "–" ? "differs" : "";
  mark(parts.badge, "data-tone", row.tone);
  mark(parts.shape, "data-tone", row.tone);
  say(parts.reason, row.reason);
  say(parts.why, row.brief);
  mark(parts.why, "title", row.brief);
  const transition = status.nextTransition;
  parts.next.replaceChildren(...(status.nextAttemptAt ? ["retry ", when(status.nextAttemptAt, "in")] : transition ? [status.desiredBecause === "suspend" ? "resumes " : `${transition.state} `, when(transition.at, "in")]
    : status.nextLookAt && row.tone !== "ok" ? ["read ", when(status.nextLookAt, "in")] : []));
  parts.since.replaceChildren(row.since ? when(row.since, "age") : "–");
}

const EXAMPLE = `apiVersion: campos-operator.dev/v1
kind: App
metadata:
  name: ticket-bot
spec:
  appId: 60c72b2f9b1e8d001c8e4f3a   # the app's _id on CamposCloud
  state: Stopped                    # Running | Stopped`;

/** Explains an empty list. */
function showBlank() {
  const blank = byId("list_blank");
  blank.hidden = view.length > 0 || viewOptions.undeclared;
  if (blank.hidden) return;
  const source = daemon?.source;
  const kind = !loaded ? "loading" : rows.size > 0 ? "filtered" : !source ? "loading"
    : source.available === false && source.trouble ? `gone ${source.trouble}` : !source.loaded ? "reading"
      : source.problems?.length ? "broken" : `empty ${daemon.undeclared?.count ?? 0}`;
  if (blank.dataset.kind === kind) return;
  blank.dataset.kind = kind;
  const blankPage = (title, ...rest) => blank.replaceChildren(make("h3", {}, title), ...rest);
  if (kind === "loading") blank.replaceChildren(make("p", {}, link === "lost" ? "Nothing was read yet." : "Loading …"));
  else if (kind === "filtered") blankPage("No matching apps.", make("p", {}, "Clear a filter, or search for something else."));
  else if (kind.startsWith("gone")) blankPage("The manifests cannot be read.", make("p", {}, sentence(source.trouble)), make("p", {}, "The operator retries, and stops nothing meanwhile."));
  else if (kind === "reading") blankPage("The manifests are being read.", make("p", {}, "Please wait."));
  else if (kind === "broken") blankPage("No manifest is valid.", make("p", {}, "Every file has an error; the panel “Operator” lists them. Nothing is called for these apps."));
  else {
    const count = daemon.undeclared?.count ?? 0;
    blankPage(count > 0 ? `${plural(count, "app is", "apps are")} not declared.` : "No manifests yet.",
      make("p", {}, `The directory was read (revision ${source.revision || "none"}) and declares no app, so the operator calls nothing. Add a file such as this one; its app appears here.`),
      make("pre", { tabindex: "0", "aria-label": "An example of a manifest" }, EXAMPLE),
      make("p", {}, make("code", {}, "campos-operator import"), " writes one for each app that the account has."));
  }
}

// ---------------------------------------------------------------------------------------------------- the operator

function facts(list, pairs) {
  const shape = JSON.stringify(pairs.map(([name, value, kind]) => [name, [value].flat().map((part) => part?.outerHTML ?? part), kind]));
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  list.replaceChildren(...pairs.filter(Boolean).flatMap(([name, value, kind]) => [make("dt", {}, name), make("dd", { class: kind }, ...[value].flat())]));
}

const sub = (...children) => make("span", { class: "sub" }, ...children);

function showDaemon() {
  if (!daemon) return;
  const { source = {}, observation = {}, governor = {} } = daemon;
  const undeclared = daemon.undeclared ?? { count: 0, apps: [] };
  say(byId("daemon_version"), daemon.version ?? "");
  const directories = [source.directories ?? source.directory ?? []].flat();
  const problems = source.problems ?? [];
  const listing = (daemon.progress ?? []).some(({ task }) => task === "list");
  const probe = governor.nextProbeAt ? ["Next probe ", when(governor.nextProbeAt, "in")] : [];
  const token = governor.accountForbidden ? ["Refused (403): all calls are paused", "bad"] : governor.accountBlocked ? ["Refused (401): all calls are paused", "bad"] : observation.completedAt || listing ? ["Accepted", ""] : ["No answer yet", ""];
  const api = governor.breakerOpen ? ["Does not answer: one probe at a time", "bad"] : governor.paused ? ["Rate limit: all requests pause", "warn"] : observation.completedAt ? ["Answers, breaker closed", ""] : listing ? ["The first list is arriving", ""] : ["No answer yet", ""];
  facts(byId("daemon_facts"), [
    ["Manifests", [source.available === false ? (source.trouble ?? "Not readable yet") : plural(source.files ?? 0, "file", "files"),
      source.skipped > 0 && ` (${source.skipped} skipped)`, ...directories.map((directory) => sub(make("code", {}, directory))),
      source.revision && sub("revision ", make("code", {}, source.revision))].filter(Boolean), source.available === false ? "bad" : ""],
    ["Observed", [observation.completedAt ? when(observation.completedAt, "ago") : "Not yet", observation.intervalSeconds > 0 && `, every ${span(observation.intervalSeconds * 1000)}`,
      observation.completedAt && sub(`${plural(observation.apps ?? 0, "app", "apps")} on ${plural(observation.pages ?? 0, "page", "pages")}`),
      observation.incomplete && sub(observation.incomplete)].filter(Boolean), observation.incomplete ? "warn" : ""],
    ["CamposCloud", [api[0], governor.pausedUntil && sub("until ", when(governor.pausedUntil, "in")), governor.pauseCause && sub(sentence(governor.pauseCause)), governor.breakerOpen && sub(...probe), typeof governor.remaining === "number" && sub(`${governor.remaining} requests left`)].filter(Boolean), api[1]],
    ["Token", [token[0], (governor.accountBlocked || governor.accountForbidden) && sub(...probe)].filter(Boolean), token[1]],
    ...(undeclared.count > 0 ? [["Undeclared", [plural(undeclared.count, "app", "apps"),
      sub(undeclared.apps.slice(0, 5).map((app) => app.name ?? app.appId).join(", "), undeclared.count > 5 && ", …"),
      sub(make("code", {}, "campos-operator import"))], ""]] : []),
    ...(daemon.leader ? [["Leader", [daemon.leader.leading ? "This process" : daemon.leader.holder ?? "Not known", daemon.leader.leading && sub(daemon.leader.identity)].filter(Boolean), daemon.leader.readable ? "" : "bad"]] : []),
    ["Policy", [daemon.policy || "Full", daemon.dryRun && ", dry run"].filter(Boolean), daemon.dryRun ? "warn" : ""],
  ]);
  const details = byId("problem_details");
  details.hidden = problems.length === 0;
  say(byId("problem_summary"), plural(source.errors ?? 0, "problem in the manifests", "problems in the manifests"));
  const list = byId("problem_list");
  if (list.dataset.shape !== problems.join("\n\n")) {
    list.dataset.shape = problems.join("\n\n");
    list.replaceChildren(...problems.map((problem) => make("li", {}, problem)));
  }
  showBudget();
  const worst = link === "lost" ? "not known now" : governor.accountForbidden ? "account refused" : governor.accountBlocked ? "token refused" : governor.breakerOpen ? "CamposCloud does not answer" : source.available === false ? "manifests unreadable"
    : problems.length ? plural(source.errors, "problem", "problems") : daemon.dryRun ? "dry run" : "all well";
  say(byId("daemon_summary"), worst);
  showNotices([
    daemon.leader && !daemon.leader.leading && ["held", "This is a standby.", `The leader is ${daemon.leader.holder ?? "not known"}; open its page to see the apps.`],
    governor.accountBlocked && ["bad", "The token is refused.", "No app is called. Provide a valid token."],
    governor.accountForbidden && ["bad", "The account is refused.", "No app is called; check its plan, the token's scopes and the teams' permissions."],
    daemon.maxChanges?.message && ["bad", "Calls are held.", sentence(daemon.maxChanges.message)],
    governor.breakerOpen && ["bad", "CamposCloud does not answer.", "The operator sends one probe at a time until it does."],
    source.available === false && source.loaded && ["bad", "The manifests cannot be read.", `${sentence(source.trouble)} The last valid manifests stay in force.`],
    observation.incomplete && ["warn", "The last list of apps was incomplete.", sentence(observation.incomplete)],
    daemon.history?.writable === false && ["warn", "The history cannot be written.", "It is kept in memory; nothing else is affected."],
    daemon.dryRun && ["held", "Dry run.", "The operator decides, and sends no call."],
    stalled && ["bad", "The operator's loop makes no progress.", "The daemon answers, but /livez fails: this page may be out of date."],
  ].filter(Boolean));
}

function showBudget() {
  const governor = daemon?.governor;
  if (!governor) return;
  const budget = governor.requestsPerMinute;
  const used = daemon.requestsLastMinute ?? 0;
  const bar = byId("budget_bar");
  const most = budget ?? Math.max(used, 1);
  bar.hidden = budget === null || budget === undefined;
  mark(bar, "aria-valuemax", Math.max(1, Math.round(most)));
  mark(bar, "aria-valuenow", Math.min(used, Math.round(most)));
  const text = bar.hidden ? `${used} in the last minute, no limit` : `${used} of ${Math.round(budget)} a minute`;
  mark(bar, "aria-valuetext", text);
  say(byId("budget_text"), text);
  const fillBar = byId("budget_fill");
  fillBar.style.width = `${Math.min(100, (100 * used) / most)}%`;
  fillBar.dataset.tone = governor.paused || used > 0.9 * most ? "warn" : "ok";
}

function showNotices(notices) {
  const box = byId("notice_list");
  const shape = JSON.stringify(notices);
  if (box.dataset.shape === shape) return;
  box.dataset.shape = shape;
  box.replaceChildren(...notices.map(([tone, title, text]) => make("p", { class: `notice ${tone}` }, make("strong", {}, title), ` ${text}`)));
}

// --------------------------------------------------------------------------------------------------------- one app

/** The app whose details are shown. */
let open = null;
/** The element that had the focus before. */
let opener = null;
let past = { name: null, entries: null, trouble: null };
const panel = byId("detail_panel");
const narrow = matchMedia("(max-width: 900px)");

function readHash() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* as it stands */ }
  // The target of the skip link is not an app: names have no underscore.
  if (name.includes("_")) return;
  if (!name) { if (open) closeDetail(); return; }
  if (name !== open) openDetail(name);
}

/** Changes the layout and keeps the row of an app at its place on the screen. */
function keepInPlace(name, change) {
  const top = () => drawn.get(name)?.getBoundingClientRect().top;
  const before = top();
  change();
  listTop = body.getBoundingClientRect().top + scrollY;
  const after = top();
  if (before !== undefined && after !== undefined && !narrow.matches) scrollBy(0, after - before);
}

function openDetail(name) {
  const fresh = open === null;
  if (fresh) opener = document.activeElement;
  open = name;
  active = name;
  keepInPlace(name, () => {
    panel.hidden = false;
    document.body.dataset.detail = "";
  });
  plan = { name, week: null };
  loadWeek();
  byId("page_all").inert = narrow.matches;
  byId("detail_body").scrollTop = 0;
  past = { name, entries: null, trouble: null };
  showDetail();
  placeRows();
  loadPast();
  byId("detail_name").focus({ preventScroll: true });
}

function closeDetail() {
  const name = open;
  open = null;
  keepInPlace(name, () => {
    panel.hidden = true;
    delete document.body.dataset.detail;
  });
  byId("page_all").inert = false;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  placeRows();
  const row = drawn.get(name)?.querySelector("a");
  const back = row ?? (opener?.isConnected && opener !== document.body ? opener : byId("search_input"));
  back.focus({ preventScroll: true });
}

function showDetail() {
  if (!open) return;
  const row = rows.get(open);
  say(byId("detail_name"), open);
  for (const section of panel.querySelectorAll("section")) section.hidden = !row;
  byId("strip_section").hidden = byId("history_section").hidden = false;
  if (!row) {
    byId("detail_badge").replaceChildren();
    delete byId("detail_badge").dataset.shape;
    say(byId("detail_message"), loaded ? "No manifest declares an app of this name. If there was one, it was released: the operator sends no call for it." : "Loading …");
    return;
  }
  const { metadata = {}, spec, status = {} } = row.item;
  const badge = byId("detail_badge");
  if (badge.dataset.shape !== row.tone + row.reason) {
    badge.dataset.shape = row.tone + row.reason;
    badge.replaceChildren(make("span", { class: "badge", "data-tone": row.tone }, toneMark(row.tone), row.reason));
  }
  say(byId("detail_message"), sentence(row.why));
  const because = becauseOf(status, spec);
  const transition = status.nextTransition;
  facts(byId("detail_facts"), [
    ["Desired", [status.desired ?? "Not known", because && sub(`because ${because}`)].filter(Boolean)],
    ["Observed", [row.observed, status.observedAt ? sub("read ", when(status.observedAt, "ago")) : sub("never read")]],
    ["Next read", status.nextLookAt ? [when(status.nextLookAt, "in"), sub(moment(Date.parse(status.nextLookAt)))] : "None is scheduled"],
    ["Next change", transition ? [status.desiredBecause === "suspend" ? `suspension ends, then ${transition.state}, ` : `${transition.state} `, when(transition.at, "in"), sub(moment(Date.parse(transition.at)))] : "None: nothing in the manifest changes it by itself"],
  ]);
  showAction(status.lastAction);
  showConditions(status.conditions ?? [], row.why);
  showPast(row);
  showWeek();
  showCommands(row);
  const suspend = spec?.suspend;
  facts(byId("detail_object"), [
    ["Name", [make("code", {}, open), copyButton("the name", open)]],
    ["App id", [make("code", {}, spec?.appId ?? "–"), spec?.appId && copyButton("the app id", spec.appId)].filter(Boolean)],
    ["Declared in", sourceOf(status)],
    status.schedule && ["Schedule", [status.schedule.name, sub(status.schedule.file)]],
    ["Policy", spec?.policy ?? `${daemon?.policy || "Full"} (the operator's)`],
    suspend && ["Suspended", [suspend === true ? "without an end" : suspend.until ? ["until ", make("time", { datetime: suspend.until, title: fullFormat.format(Date.parse(suspend.until)) }, moment(Date.parse(suspend.until)))] : "until further notice", suspend.reason && sub(suspend.reason)].flat().filter(Boolean)],
    row.labels && ["Labels", row.labels],
    ["Revision", make("code", {}, status.revision || "–")],
    ["Generation", String(metadata.generation ?? "–")],
  ].filter(Boolean));
  mark(byId("detail_json"), "href", `api/v1/apps/${encodeURIComponent(open)}`);
}

/** Returns the location of the manifest, as a link if --source-link is set. */
function sourceOf({ source = {}, revision = "" }) {
  const place = make("code", {}, `${source.file ?? "?"}:${source.line ?? "?"}`);
  const template = daemon?.sourceLink;
  if (!template || !source.file) return place;
  const path = source.file.split("/").map(encodeURIComponent).join("/");
  const address = template.replaceAll("{revision}", encodeURIComponent(revision)).replaceAll("{file}", path).replaceAll("{line}", String(source.line || 1));
  return /^https?:\/\//i.test(address) ? make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, place) : place;
}

/** Returns a button that copies a text; it also works over plain http, where browsers block the clipboard. */
function copyButton(what, text) {
  return make("button", { type: "button", class: "copy", "data-copy": text, "aria-label": `Copy ${what}` }, "Copy");
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "unseen" });
    field.value = text;
    panel.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  // The text on the button stays a part of its name.
  const label = button.getAttribute("aria-label");
  const set = (word) => { say(button, word); mark(button, "aria-label", label.replace(/^\w+/, word)); };
  set("Copied");
  speak("Copied");
  setTimeout(() => set("Copy"), 1500);
}

const code = (text) => make("code", {}, text);

/** Commands that help with this app. */
function showCommands(row) {
  const { status = {}, spec } = row.item;
  const other = status.desired === "Stopped" ? "Running" : "Stopped";
  const commands = [
    row.reason === "InvalidManifest" || row.reason.startsWith("Duplicate") ? "campos-operator validate" : null,
    row.reason === "TooManyChanges" ? "campos-operator plan" : null,
    `campos-operator describe ${row.name}`,
    `campos-operator history ${row.name}`,
    spec?.schedule || spec?.scheduleRef ? `campos-operator explain ${row.name}` : null,
    spec?.override ? `campos-operator override ${row.name} --clear` : `campos-operator override ${row.name} ${other} --for 4h`,
    spec?.suspend ? `campos-operator resume ${row.name}` : `campos-operator suspend ${row.name}`,
    row.observed === "Running" && status.desired === "Running" ? `campos-operator restart ${row.name}` : null,
  ].filter(Boolean);
  const list = byId("detail_commands");
  const shape = commands.join("\n");
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  list.replaceChildren(...commands.map((command) => make("li", {}, code(command), copyButton("the command", command))));
}

let plan = { name: null, week: null };

/** Reads the schedule of the open app. */
async function loadWeek() {
  const name = open;
  try {
    const week = await get(`api/v1/apps/${encodeURIComponent(name)}/schedule`);
    if (name === open) plan = { name, week };
  } catch {
    if (name === open) plan = { name, week: null };
  }
  showDetail();
}

/** The windows, seven days and the next changes of the open app. */
function showWeek() {
  const { week } = plan;
  const section = byId("week_section");
  section.hidden = !week || (week.windows.length === 0 && week.transitions.length === 0 && !week.nextRestart);
  if (section.hidden) return;
  const shape = JSON.stringify(week);
  if (section.dataset.shape === shape) return;
  section.dataset.shape = shape;
  const coarse = week.days.some((day) => day.coarse) ? " The state changes often: the days show one state for each 10 minutes." : "";
  say(byId("week_zone"), `Times are in ${week.timeZone}.${coarse}`);
  byId("week_windows").replaceChildren(...week.windows.map(({ number, state, when: span, reason, decides }) =>
    make("li", { "data-decides": decides ? "" : null }, make("span", {}, String(number)), make("span", {}, state),
      make("span", {}, span, reason && sub(reason), decides && sub("decides now")))));
  const bars = week.days.map(({ title, parts, now: share }) => {
    const bar = draw("svg", { class: "strip day", viewBox: "0 0 1000 20", preserveAspectRatio: "none", role: "img",
      "aria-label": `${title}: ${parts.map(({ state, from, to }) => `${state} ${hourOf(from)} to ${hourOf(to)}`).join(", ")}` },
      ...parts.map(({ state, from, to, because }) => {
        const height = 20 * (HEIGHT[state] ?? 0.1);
        return draw("rect", { "data-state": state, x: from * 1000, y: 20 - height, width: (to - from) * 1000, height }, draw("title", {}, `${state}, ${because}`));
      }),
      ...(share === null ? [] : [draw("rect", { class: "present", x: share * 1000 - 3, y: 0, width: 6, height: 20 })]));
    return make("li", {}, make("span", {}, title), bar);
  });
  byId("week_days").replaceChildren(...bars, make("li", { class: "hours", "aria-hidden": "true" }, make("span", {}), make("span", {}, ...["0", "6", "12", "18", "24"].map((hour) => make("span", {}, hour)))));
  byId("week_next").replaceChildren(...week.transitions.map(({ at, local, state, because }) =>
    make("li", {}, make("b", {}, state), ` ${local}, `, when(at, "in"), sub(because))),
    ...(week.nextRestart ? [make("li", {}, make("b", {}, "Restart"), ` ${week.nextRestart}`)] : []));
}

const hourOf = (share) => { const minutes = Math.round(share * 1440); return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`; };

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

function showAction(action) {
  const box = byId("detail_action");
  const shape = JSON.stringify(action ?? null);
  if (box.dataset.shape === shape) return;
  box.dataset.shape = shape;
  if (!action) return box.replaceChildren(make("p", { class: "faint" }, "None since the operator started."));
  const list = make("dl", { class: "facts" });
  const answer = answerWords({ ...action, status: action.returnedStatus, online: action.returnedOnline, error: null });
  facts(list, [
    ["Call", [`${action.action}, attempt ${action.attempt}`, sub(moment(Date.parse(action.at)), ", ", when(action.at, "ago"))]],
    ["Result", action.result],
    answer && ["Answer", answer],
    action.error && ["Error", action.error, "bad"],
  ].filter(Boolean));
  box.replaceChildren(list);
}

/** The server's answer in words. */
function answerWords({ httpStatus, status, online, error }) {
  return [
    httpStatus && `HTTP ${httpStatus}`,
    status && `status “${status}”`,
    online !== null && online !== undefined && `online ${online}`,
    error,
  ].filter(Boolean).join(", ");
}

const PLAIN = {
  Ready: { True: "Yes: settled", False: "No", Unknown: "Not known" },
  Reconciling: { True: "Yes: in progress", False: "No: nothing in progress", Unknown: "Not known" },
  Stalled: { True: "Yes: an edit or a person must help", False: "No", Unknown: "Not known" },
};

function showConditions(conditions, shown) {
  const list = byId("detail_conditions");
  const shape = JSON.stringify([conditions, shown]);
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  list.replaceChildren(...conditions.map((one) => make("li", {},
    make("span", {}, one.type), make("span", {}, PLAIN[one.type]?.[one.status] ?? one.status),
    make("span", { class: "since" }, "since ", when(one.lastTransitionTime, "age")),
    // A message that all three share is shown once, at the top.
    one.message !== shown && make("span", { class: "more" }, sentence(one.message)))));
}

let readingPast = 0;

async function loadPast() {
  const name = open;
  readingPast += 1;
  try {
    const answer = await get(`api/v1/history?app=${encodeURIComponent(name)}&limit=200`);
    if (name !== open) return;
    past = { name, entries: answer.items ?? [], trouble: null };
  } catch (error) {
    if (name !== open) return;
    past = { name, entries: null, trouble: `Could not read the history: ${error.message}` };
  } finally {
    readingPast -= 1;
  }
  showDetail();
}

/** An entry that arrives during the request may be missing from the answer: then the history is read again. */
function addPast(entry) {
  if (entry.app !== open) return;
  if (readingPast > 0) return loadPast();
  if (!past.entries) return;
  past = { ...past, entries: [entry, ...past.entries].slice(0, 200) };
  refresh();
}

function showPast(row) {
  const strip = byId("detail_strip");
  const list = byId("detail_history");
  const shape = past.name + (past.trouble ?? past.entries?.length) + (past.entries?.[0]?.time ?? "") + row.observed + Math.floor(now() / 60e3);
  if (strip.dataset.shape === shape) return;
  strip.dataset.shape = shape;
  if (!past.entries) {
    byId("strip_section").hidden = true;
    return list.replaceChildren(make("p", { class: "faint" }, past.trouble ?? "Loading …"));
  }
  strip.replaceChildren(...stripOf(past.entries, row.observed));
  list.replaceChildren(past.entries.length ? make("ol", { class: "history" }, past.entries.map(entryOf))
    : make("p", { class: "faint" }, "No entries for this app."));
}

const DAY = 24 * 3600e3;
/** Height of a state, of 1, so that colour is not the only signal. */
const HEIGHT = { Running: 1, Creating: 0.7, Stopped: 0.4, Suspended: 0.25, Missing: 0.25, Unknown: 0.1, "Not known": 0.06 };

/** `entries` are newest first. */
function stripOf(entries, observed) {
  const end = now();
  const begin = end - DAY;
  const x = (at) => Math.round(((Math.min(Math.max(at, begin), end) - begin) / DAY) * 14400) / 10;
  const oldest = [...entries].reverse();
  const parts = [];
  let state = oldest[0]?.before?.observed ?? null;
  // Every change is recorded, so the state before the oldest entry reaches back, unless older entries were left out.
  const whole = entries.length < 200;
  // There is no data from before the start of the process and its history.
  const started = Date.parse(daemon?.startedAt ?? "") || begin;
  const known = oldest.length ? Math.min(started, Date.parse(oldest[0].time)) : started;
  let from = Math.max(begin, oldest.length && (!state || !whole) ? Date.parse(oldest[0].time) : known);
  if (from > begin) parts.push(["Not known", begin, from]);
  for (const entry of oldest) {
    const at = Date.parse(entry.time);
    const next = entry.after?.observed ?? state;
    if (next === state) continue;
    if (state && at > begin) parts.push([state, Math.max(from, begin), at]);
    state = next;
    from = at;
  }
  parts.push([state ?? observed, Math.max(from, begin), end]);
  const calls = oldest.filter((entry) => entry.action && Date.parse(entry.time) > begin);
  const svg = draw("svg", { class: "strip", viewBox: "0 0 1440 56", preserveAspectRatio: "none", role: "img", "aria-label": stripWords(parts, calls) },
    draw("rect", { class: "ground", x: 0, y: 38, width: 1440, height: 2 }),
    ...parts.map(([what, start, stop]) => {
      const height = 38 * (HEIGHT[what] ?? 0.1);
      const width = Math.max(5, x(stop) - x(start)); // so that a moment is visible
      return draw("rect", { "data-state": what, x: Math.min(x(start), 1440 - width), y: 38 - height, width, height });
    }),
    ...calls.map((entry) => draw("rect", { class: failed(entry) ? "call failed" : "call", x: Math.min(1435, Math.max(0, x(Date.parse(entry.time)) - 2.5)), y: failed(entry) ? 50 : 44, width: 5, height: failed(entry) ? 6 : 12 },
      draw("title", {}, `${entry.action}, ${moment(Date.parse(entry.time))}`))));
  const hours = make("div", { class: "hours", "aria-hidden": "true" }, ...["24 h ago", "18 h", "12 h", "6 h", "now"].map((text) => make("span", {}, text)));
  const states = [...new Set(parts.map(([what]) => what))];
  const key = (attributes) => draw("svg", { viewBox: "0 0 12 12" }, draw("rect", { width: 12, ...attributes }));
  const legend = make("div", { class: "legend", "aria-hidden": "true" },
    ...states.map((what) => make("span", {}, wrapStrip(key({ "data-state": what, y: 12 - 12 * (HEIGHT[what] ?? 0.1), height: 12 * (HEIGHT[what] ?? 0.1) })), what)),
    calls.length > 0 && make("span", {}, wrapStrip(key({ class: "call", x: 4, width: 4, height: 12 })), "call"),
    calls.some(failed) && make("span", {}, wrapStrip(key({ class: "call failed", x: 4, width: 4, y: 6, height: 6 })), "failed call"));
  return [svg, hours, legend];
}

/** Bulks of the forecast that are listed. */
const MOST_BULKS = 3;
/** The forecast is read again after this time. */
const FORECAST_AGE = 60e3;
let forecastAt = -Infinity;

/** Reads and shows the stops and starts of the next 24 hours. */
async function loadForecast() {
  if (performance.now() - forecastAt < FORECAST_AGE) return;
  forecastAt = performance.now();
  try {
    showForecast(await get("api/v1/forecast"));
  } catch {
    forecastAt = -Infinity; // the connection itself is reported elsewhere
  }
}

function showForecast({ from, to, hours, bulks }) {
  byId("next_section").hidden = bulks.length === 0;
  const [begin, end] = [Date.parse(from), Date.parse(to)];
  const x = (at) => Math.round(((at - begin) / (end - begin)) * 14400) / 10;
  const most = Math.max(1, ...hours.map(({ stops, starts }) => stops + starts));
  const bars = hours.flatMap(({ at, stops, starts }) => {
    const left = Math.max(0, x(Date.parse(at)));
    const [low, high] = [(stops / most) * 50, (starts / most) * 50];
    return [
      stops > 0 && draw("rect", { "data-state": "Stopped", x: left, y: 50 - low, width: 56, height: Math.max(2, low) }),
      starts > 0 && draw("rect", { "data-state": "Running", x: left, y: 50 - low - high, width: 56, height: Math.max(2, high) }),
    ].filter(Boolean);
  });
  const calls = ({ stops, starts }) => [stops > 0 && plural(stops, "stop", "stops"), starts > 0 && plural(starts, "start", "starts")].filter(Boolean).join(", ");
  const words = bulks.map((bulk) => `${calls(bulk)} at ${moment(Date.parse(bulk.at))}`).slice(0, MOST_BULKS).join("; ");
  byId("next_chart").replaceChildren(
    draw("svg", { class: "strip next", viewBox: "0 0 1440 52", preserveAspectRatio: "none", role: "img", "aria-label": `By hour: ${words}` },
      draw("rect", { class: "ground", x: 0, y: 50, width: 1440, height: 2 }), ...bars),
    make("div", { class: "hours", "aria-hidden": "true" }, ...["now", "6 h", "12 h", "18 h", "in 24 h"].map((text) => make("span", {}, text))));
  byId("next_list").replaceChildren(
    ...bulks.slice(0, MOST_BULKS).map((bulk) => {
      const takes = Date.parse(bulk.endsAt) - Date.parse(bulk.at);
      return make("li", {}, make("b", {}, moment(Date.parse(bulk.at))), ` ${calls(bulk)}`, takes >= 1000 && `, takes ${span(takes)}`, `: ${bulk.because}`);
    }),
    ...(bulks.length > MOST_BULKS ? [make("li", { class: "faint" }, `and ${bulks.length - MOST_BULKS} more: campos-operator forecast`)] : []));
}

/** Maximum number of activity items. */
const MOST_ITEMS = 8;
let overviewAt = -Infinity;
let overviewSoon = 0;

/** Reloads the last 24 hours after changes, at most once in 3 seconds. */
function loadOverviewSoon() {
  clearTimeout(overviewSoon);
  overviewSoon = setTimeout(() => loadOverview(true), Math.max(300, overviewAt + 3000 - performance.now()));
}

/** Reads and shows the last 24 hours: the number of apps of each group, and the newest activity. */
async function loadOverview(now = false) {
  if (!now && performance.now() - overviewAt < FORECAST_AGE) return;
  overviewAt = performance.now();
  try {
    const [trend, activity] = await Promise.all([get("api/v1/trend"), get(`api/v1/activity?limit=${MOST_ITEMS}`)]);
    showTrend(trend);
    showActivity(activity.items ?? []);
  } catch {
    overviewAt = -Infinity; // the connection itself is reported elsewhere
  }
}

const fieldOf = (group) => group[0].toLowerCase() + group.slice(1);

function showTrend({ items, peaks: known = {} }) {
  const most = Math.max(1, ...items.map(({ apps }) => apps?.declared ?? 0));
  const width = 1440 / items.length;
  const bars = items.flatMap(({ apps }, at) => {
    const x = Math.round(at * width * 10) / 10;
    if (!apps) return [draw("rect", { class: "ground", x, y: 52, width: width + 0.5, height: 4 })];
    let y = 56;
    // Settled apps at the bottom, apps that need attention on top; a small part stays visible.
    return TONES.map(({ tone, group }) => {
      const count = apps[fieldOf(group)];
      if (!count) return null;
      const height = Math.max(tone === "ok" ? 1 : 3, (count / most) * 52);
      y -= height;
      return draw("rect", { "data-tone": tone, x, y, width: width + 0.5, height });
    }).filter(Boolean);
  });
  // Exact, while a sample is of each 15 minutes.
  const peaks = TONES.filter(({ tone }) => tone !== "ok").map((one) => [one, known[fieldOf(one.group)]?.count ?? 0]).filter(([, count]) => count > 0);
  const peakWords = peaks.map(([{ verb }, count]) => `${count.toLocaleString()} ${verb[count === 1 ? 0 : 1]}`.replace(/ (is|are) /, " ")).join(", ");
  const isKnown = items.some(({ apps }) => apps);
  const words = peaks.length ? `Maximum: ${peakWords}.` : isKnown ? "All apps were settled." : "No data for these hours.";
  byId("trend_section").hidden = rows.size === 0;
  say(byId("trend_words"), words);
  byId("trend_chart").replaceChildren(
    draw("svg", { class: "strip trend", viewBox: "0 0 1440 56", preserveAspectRatio: "none", role: "img", "aria-label": `The last 24 hours. ${words}` }, ...bars),
    make("div", { class: "hours", "aria-hidden": "true" }, ...["24 h ago", "18 h", "12 h", "6 h", "now"].map((text) => make("span", {}, text))));
}

function showActivity(activity) {
  const box = byId("activity_list");
  byId("activity_section").hidden = activity.length === 0;
  const shape = JSON.stringify(activity);
  if (box.dataset.shape === shape) return;
  box.dataset.shape = shape;
  box.replaceChildren(...activity.map(({ time, app, trigger, words, failedCalls }) => make("li", {},
    make("time", { datetime: time, title: fullFormat.format(Date.parse(time)) }, moment(Date.parse(time))),
    make("div", {}, app ? make("a", { href: `#${encodeURIComponent(app)}` }, app) : make("b", {}, "Account"), ` ${words}`,
      sub(trigger.toLowerCase(), failedCalls > 0 && `, ${plural(failedCalls, "failed call", "failed calls")}`)))));
}

function wrapStrip(svg) {
  svg.classList.add("strip");
  svg.classList.add("small");
  return svg;
}

const failed = (entry) => Boolean(entry.answer && (entry.answer.error || (entry.answer.httpStatus && entry.answer.httpStatus >= 300)));

function stripWords(parts, calls) {
  const total = new Map();
  for (const [what, start, stop] of parts) total.set(what, (total.get(what) ?? 0) + stop - start);
  const shares = [...total].map(([what, ms]) => `${what} for ${span(ms)}`).join(", ");
  return `Observed in the last 24 hours: ${shares || "nothing"}. ${plural(calls.length, "call", "calls")}${calls.some(failed) ? `, ${calls.filter(failed).length} of them failed` : ""}.`;
}

function entryOf(entry) {
  const { before, after, action, answer, trigger } = entry;
  const both = (of) => (before?.[of] && after?.[of] && before[of] !== after[of] ? `${before[of]} → ${after[of]}` : after?.[of] ?? before?.[of] ?? "–");
  const bad = failed(entry);
  return make("li", {},
    make("time", { datetime: entry.time, title: fullFormat.format(Date.parse(entry.time)) }, moment(Date.parse(entry.time))),
    make("div", {},
      make("span", {}, action ? `${action[0].toUpperCase()}${action.slice(1)} called` : after?.reason ? both("reason") : "Released: no manifest declares it"),
      action && sub(both("reason")),
      answer && make("span", { class: bad ? "sub failed" : "sub" }, [answer.result, answerWords(answer)].filter(Boolean).join(": ")),
      sub(`observed ${both("observed")}, desired ${both("desired")}`),
      trigger && sub(`${trigger}${entry.revision ? `, revision ${entry.revision}` : ""}`)));
}

// ------------------------------------------------------------------------------------------------------ the daemon's data

class Refused extends Error {
  constructor(path, status) {
    super(`${path} answered ${status}`);
    this.status = status;
  }
}

async function get(path) {
  const response = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(15000), headers: { accept: "application/json" } });
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds, so less than two is no skew.
  if (date) skew = Math.abs(date - Date.now()) > 2500 ? date - Date.now() : 0;
  if (!response.ok) throw new Refused(path.split("?")[0], response.status);
  return response.json();
}

/** connecting | live | polling | lost */
let link = "connecting";
let lastSeen = null;
let stalled = false;
let events = null;
let opening = 0;
let loading = null;
let again = false;
/** Changes that arrive during the request for the list, to be applied to it. */
let meanwhile = [];

function setLink(next, trouble) {
  const before = link;
  link = next;
  document.body.dataset.link = next;
  byId("connection_pill").dataset.link = next;
  const texts = { connecting: "Connecting", live: "Live", polling: "Live, every 5 s", lost: "Disconnected" };
  say(byId("connection_text"), texts[next]);
  const banner = byId("lost_banner");
  banner.hidden = next !== "lost";
  if (next === "lost") {
    say(byId("lost_title"), lastSeen ? `Disconnected, last seen ${clock(lastSeen)}.` : "Cannot reach the operator.");
    say(byId("lost_text"), `${trouble ? `${trouble}. ` : ""}${lastSeen ? "The page shows that moment. " : ""}Retrying …`);
    if (before !== "lost") speak(lastSeen ? `Disconnected, last seen ${clock(lastSeen)}` : "Cannot reach the operator");
    refresh();
  } else if (before === "lost") speak("Connected again");
}

const noteAnswer = () => { lastSeen = now(); };

/** Reads everything again. Calls during a request cause one more request, not many. */
function loadAll() {
  if (loading) { again = true; return loading; }
  meanwhile = [];
  loading = (async () => {
    const [list, status] = await Promise.all([get("api/v1/apps"), get("api/v1/status")]);
    rows.clear();
    for (const item of list.items ?? []) rows.set(item.metadata.name, rowOf(item));
    for (const change of meanwhile) change();
    daemon = status;
    loaded = true;
    noteAnswer();
    refresh();
    loadForecast();
    loadOverviewSoon();
    if (open) { loadPast(); loadWeek(); }
  })().finally(() => {
    loading = null;
    if (again) { again = false; loadAll().catch(lost); }
  });
  return loading;
}

function change(apply) {
  if (loading) meanwhile.push(apply);
  apply();
  noteAnswer();
  refresh();
}

function connect() {
  events?.close();
  const source = events = new EventSource("api/v1/events");
  const all = () => {
    clearTimeout(opening);
    if (source !== events) return;
    loadAll().then(() => { if (source === events && source.readyState === EventSource.OPEN) setLink("live"); }, lost);
  };
  const on = (kind, act) => source.addEventListener(kind, (event) => {
    if (source !== events) return;
    // After an unreadable event, everything is read again.
    let data = null;
    try { data = event.data ? JSON.parse(event.data) : null; } catch { all(); return; }
    act(data);
  });
  // A new stream begins with a reset. A resumed one has none, and everything is read all the same.
  source.onopen = () => { clearTimeout(opening); opening = setTimeout(all, 250); };
  source.onerror = () => { if (source === events) broken(source); };
  on("reset", all);
  on("app", (item) => {
    const before = rows.get(item.metadata.name)?.item;
    change(() => rows.set(item.metadata.name, rowOf(item)));
    const edited = before?.metadata.generation !== item.metadata.generation || before?.status.nextTransition?.at !== item.status?.nextTransition?.at;
    if (item.metadata.name === open && edited) loadWeek();
  });
  on("removed", ({ name }) => change(() => rows.delete(name)));
  on("daemon", (status) => change(() => { daemon = { ...daemon, ...status }; }));
  on("history", (entry) => { addPast(entry); loadOverviewSoon(); });
}

let retry = 0;
let waits = 0;
function later(act) {
  clearTimeout(retry);
  // After 1, 2, 4, then each 5 s, with jitter, so that many open pages do not return at once.
  const wait = Math.min(5000, 1000 * 2 ** waits) * (0.8 + 0.4 * Math.random());
  waits += 1;
  retry = setTimeout(act, wait);
}

/** Handles a refused stream: there are too many readers, or nothing answers. */
async function broken(source) {
  if (source.readyState === EventSource.CONNECTING) return lost(); // the browser retries
  source.close();
  events = null;
  try {
    const response = await fetch("api/v1/events", { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (response.ok) return later(connect);
    poll();
  } catch (error) {
    lost(error);
  }
}

function lost(error) {
  stalled = false;
  setLink("lost", error instanceof Refused ? error.message : "");
  if (events?.readyState !== EventSource.CONNECTING) { events?.close(); events = null; later(connect); }
}

/** Without a stream: reads everything each five seconds, and retries the stream each minute. */
async function poll(times = 12) {
  clearTimeout(retry);
  try {
    await loadAll();
    waits = 0;
    setLink("polling");
    retry = setTimeout(() => (times > 1 ? poll(times - 1) : connect()), 5000);
  } catch (error) {
    lost(error);
  }
}

/** Finds a dead connection, and a daemon that answers while its loop makes no progress. */
async function pulse() {
  if (link !== "live" && link !== "polling") return;
  try {
    const response = await fetch("livez", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    waits = 0;
    noteAnswer();
    // The number of requests in the last minute changes without an event.
    daemon = { ...daemon, ...(await get("api/v1/status")) };
    stalled = !response.ok;
    refresh();
  } catch (error) {
    events?.close();
    events = null;
    lost(error);
  }
}

// ------------------------------------------------------------------------------------------------------------ input

const search = byId("search_input");
search.addEventListener("input", () => { viewOptions.words = search.value; changed(); });
byId("sort_select").addEventListener("change", (event) => { viewOptions.sort = event.target.value; viewOptions.down = false; changed(); });
byId("by_select").addEventListener("change", (event) => { viewOptions.by = event.target.value; changed(); });
byId("undeclared_button").addEventListener("click", () => { viewOptions.undeclared = !viewOptions.undeclared; changed(); });
byId("keys_button").addEventListener("click", () => byId("keys_dialog").showModal());
byId("keys_close").addEventListener("click", () => byId("keys_dialog").close());
panel.addEventListener("click", (event) => { const button = event.target.closest("button.copy"); if (button) copy(button); });
byId("clear_button").addEventListener("click", () => { clearFilters(); search.focus(); });
byId("detail_close").addEventListener("click", closeDetail);

function clearFilters() {
  viewOptions.words = search.value = "";
  for (const facet of Object.keys(FACETS)) viewOptions[facet].clear();
  viewOptions.label.clear();
  viewOptions.undeclared = false;
  changed();
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("[role=row]");
  if (!row?.dataset.name || event.target.closest("a") || String(getSelection())) return;
  location.hash = encodeURIComponent(row.dataset.name);
});
body.addEventListener("focusin", (event) => { active = event.target.closest("[role=row]")?.dataset.name ?? active; });

function move(to) {
  let index = Math.max(0, Math.min(view.length - 1, to));
  // Skip titles; the last entry of the view is never a title.
  if (view[index]?.title) index += to > view.findIndex((one) => one.name === active) || index === 0 ? 1 : -1;
  const row = view[index];
  if (!row || row.title) return;
  active = row.name;
  const top = listTop + index * rowHeight;
  if (top - stuck() < scrollY) scrollTo(0, top - stuck());
  else if (top + rowHeight > scrollY + innerHeight) scrollTo(0, top + rowHeight - innerHeight + 8);
  placeRows();
  drawn.get(row.name)?.querySelector("a").focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || byId("keys_dialog").open) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "Escape") {
    if (open) closeDetail();
    else if (event.target === search && search.value) { viewOptions.words = search.value = ""; changed(); }
    else if (typing) event.target.blur();
    else if (filtered()) clearFilters();
    else return;
    return event.preventDefault();
  }
  if (event.key === "?" && !typing) {
    byId("keys_dialog").showModal();
    return event.preventDefault();
  }
  if (event.key === "/" && !typing) {
    if (open && narrow.matches) closeDetail();
    search.focus();
    search.select();
    return event.preventDefault();
  }
  // Arrows scroll the panel, and choose in a select.
  if (panel.contains(event.target) || (typing && event.target !== search)) return;
  if (typing && !["ArrowDown", "Enter"].includes(event.key)) return;
  const here = active === null ? -1 : view.findIndex((row) => row.name === active);
  const page = Math.max(1, Math.floor((innerHeight - stuck()) / rowHeight) - 1);
  const inRows = body.contains(event.target);
  if (event.key === "ArrowDown") move(typing ? 0 : here + 1);
  else if (event.key === "ArrowUp" && inRows && here <= 0) search.focus();
  else if (event.key === "ArrowUp" && here >= 0) move(here - 1);
  else if (event.key === "Enter" && typing && view.length > 0) location.hash = encodeURIComponent(view.find((row) => row.name).name);
  else if (inRows && event.key === "PageDown") move(here + page);
  else if (inRows && event.key === "PageUp") move(here - page);
  else if (inRows && event.key === "Home") move(0);
  else if (inRows && event.key === "End") move(view.length - 1);
  else return;
  event.preventDefault();
});

// Not on the next frame: the browser calls this once a frame, and a delay would show empty rows.
addEventListener("scroll", placeRows, { passive: true });
addEventListener("resize", () => { rowHeight = px("--row"); showRows(); });
addEventListener("hashchange", readHash);
addEventListener("popstate", () => { readAddress(); search.value = viewOptions.words; refresh(); });
narrow.addEventListener("change", () => { byId("page_all").inert = open !== null && narrow.matches; });
// A change of height above the list moves the rows.
new ResizeObserver(() => { listTop = body.getBoundingClientRect().top + scrollY; placeRows(); }).observe(document.querySelector("main"));

readAddress();
search.value = viewOptions.words;
buildHead();
const phone = matchMedia("(max-width: 720px)");
/** Closes the details and filters on a phone, so that the first app is on the first screen. */
function fold() { byId("daemon_details").open = byId("filter_details").open = !phone.matches; }
phone.addEventListener("change", fold);
fold();
setInterval(() => { tickTimes(); showBudget(); if (loaded && !document.hidden) { loadForecast(); loadOverview(); } }, 1000);
setInterval(pulse, 10000);
readHash();
connect();
