"use strict";
// Draws what /live sends: first the samples of the last hour, then the state once a second. All texts are set as text.
const $ = (id) => document.getElementById(id);
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attrs, text) => { const e = document.createElementNS(SVG, tag); for (const k in attrs) e.setAttribute(k, attrs[k]); if (text !== undefined) e.textContent = text; return e; };
const count = (n) => n == null ? "unknown" : Math.round(n).toLocaleString("en").replace(/,/g, "\u2009");
const short = (n) => n >= 1e9 ? (n / 1e9).toFixed(1) + " G" : n >= 1e6 ? (n / 1e6).toFixed(1) + " M" : n >= 1e4 ? (n / 1e3).toFixed(0) + " k" : n >= 10 || n === 0 ? Math.round(n).toString() : n.toFixed(1);
const bytes = (n) => { if (n == null) return "unknown"; const u = ["B", "KiB", "MiB", "GiB", "TiB"]; let i = 0; while (n >= 1024 && i < 4) { n /= 1024; i++; } return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + u[i]; };
const time = (s) => s == null ? "unknown" : s < 1 ? Math.round(s * 1000) + " ms" : s < 120 ? (s < 10 ? s.toFixed(1) : Math.round(s)) + " s" : s < 7200 ? Math.round(s / 60) + " min" : s < 172800 ? (s / 3600).toFixed(1) + " h" : Math.round(s / 86400) + " d";
const rate = (n) => short(n) + "/s";
let samples = [], now = null, every = 5, kept = 720;

const PLOTS = [
  { id: "rate", title: "Events a second", unit: rate, a: ["received", "received"], b: ["published", "published"] },
  { id: "backlog", title: "Backlog", unit: (n) => short(n) + " changes", a: ["backlog", "unpublished changes"] },
  { id: "oldest", title: "Age of the oldest unpublished change", unit: time, a: ["oldest", "age"] },
  { id: "latency", title: "Latency, commit to acknowledged", unit: time, a: ["p50", "median"], b: ["p99", "99th percentile"] },
  { id: "wal", title: "WAL that PostgreSQL retains", unit: bytes, a: ["retained", "retained"] },
  { id: "disk", title: "Log on disk", unit: bytes, a: ["log", "log"] },
];

function nice(top, unit) {
  if (!(top > 0)) return 1;
  if (unit === bytes) return Math.pow(2, Math.ceil(Math.log2(top)));
  if (unit === time) { const t = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 86400].find((s) => top <= s); if (t) return t; }
  const p = Math.pow(10, Math.floor(Math.log10(top)));
  for (const m of [1, 2, 5, 10]) if (top <= m * p) return m * p;
  return top;
}

function plot(p) {
  const old = $("plot-" + p.id), fig = el("figure"), cap = el("figcaption");
  fig.id = "plot-" + p.id; fig.tabIndex = 0;
  cap.append(el("span", "", p.title));
  const key = el("span", "key"), last = samples[samples.length - 1];
  const values = (k) => samples.map((s) => s[k]).filter((v) => v != null);
  for (const [n, which] of [p.a, p.b].entries()) {
    if (!which) continue;
    const s = el("span"); s.append(el("i", n ? "second" : ""), document.createTextNode(which[1])); if (p.b) key.append(s);
  }
  const value = last && last[p.a[0]] != null ? p.unit(last[p.a[0]]) : "–";
  cap.append(el("b", "", value));
  const W = 400, H = 130, left = 4, right = 396, up = 14, down = 108;
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img" });
  const all = values(p.a[0]).concat(p.b ? values(p.b[0]) : []);
  const most = all.length ? Math.max(...all) : 0, top = nice(most, p.unit);
  const words = all.length ? `now ${value}, highest ${p.unit(most)} in the last hour` : "no measurement yet";
  svg.setAttribute("aria-label", `${p.title}: ${words}`); fig.setAttribute("aria-label", `${p.title}: ${words}`);
  const end = last ? last.at : 0, span = every * kept;
  const x = (s) => right - (end - s.at) / span * (right - left), y = (v) => down - v / top * (down - up);
  let since = null;
  for (const s of samples.concat([null])) {
    const bad = s && !s.ready;
    if (bad && since === null) since = x(s);
    if (!bad && since !== null) { const to = s ? x(s) : right; svg.append(shape("rect", { class: "outage", x: since, y: up, width: Math.max(1, to - since), height: down - up })); since = null; }
  }
  for (const f of [0, .5, 1]) svg.append(shape("line", { class: "grid", x1: left, x2: right, y1: y(top * f), y2: y(top * f), "vector-effect": "non-scaling-stroke" }));
  for (const [n, which] of [p.a, p.b].entries()) {
    if (!which) continue;
    let d = "", area = "", open = false, from = 0, lx = 0;
    for (const s of samples) {
      const v = s[which[0]];
      if (v == null) { if (open) area += `L${lx} ${down}L${from} ${down}Z`; open = false; continue; }
      const px = x(s).toFixed(1), py = y(v).toFixed(1);
      d += (open ? "L" : "M") + px + " " + py; area += (open ? "L" : "M") + px + " " + py;
      if (!open) from = px; lx = px; open = true;
    }
    if (open) area += `L${lx} ${down}L${from} ${down}Z`;
    if (!n && area) svg.append(shape("path", { class: "fill", d: area }));
    if (d) svg.append(shape("path", { class: n ? "b" : "a", d, "vector-effect": "non-scaling-stroke" }));
  }
  const box = el("div", "plotbox"); box.append(svg);
  const axis = el("div", "axis"); axis.setAttribute("aria-hidden", "true");
  axis.append(el("span", "", "1 hour ago"), el("span", "", p.unit(top) + " at the top"), el("span", "", "now"));
  fig.append(cap, box, axis);
  if (p.b) fig.append(key);
  if (old) { const focused = document.activeElement === old; old.replaceWith(fig); if (focused) fig.focus(); } else $("plots").append(fig);
}

function station(id, cls, big, small) {
  const li = $(id); li.className = cls; li.querySelector("b").textContent = big; li.querySelector("span").textContent = small;
}

function pipe(id, perSecond, stuck, text) {
  const li = $(id); li.className = "pipe " + (stuck ? "stuck" : perSecond > 0 ? "flows" : "");
  li.querySelector("i").style.setProperty("--pace", Math.max(.35, 2.4 - Math.log10(1 + perSecond) * .6) + "s");
  li.querySelector("span").textContent = text;
}

function rows(id, list, make) {
  const body = $(id).querySelector("tbody"); body.replaceChildren(...list.map(make));
}

function row(head, cells, title) {
  const tr = el("tr"), th = el("th", "", head); th.scope = "row"; if (title) th.title = title; tr.append(th, ...cells); return tr;
}

function share(part) {
  const td = el("td", "bar"), i = el("i"); i.style.width = Math.min(100, part * 100).toFixed(1) + "%"; td.append(i);
  td.setAttribute("aria-label", (part * 100).toFixed(1) + " percent"); return td;
}

function finding(f) {
  const d = el("div", "finding " + (f.severity === "blocker" ? "blocker" : "warning")), s = el("strong", "", (f.severity === "blocker" ? "Problem" : "Warning") + ": " + f.subject);
  d.append(s, document.createTextNode(" — " + f.fact));
  if (f.hint) d.append(el("p", "", f.hint));
  if (f.command) { const p = el("p"); p.append(el("code", "", f.command)); d.append(p); }
  return d;
}

let shown = "";
function state() {
  const { report: r, types, shards, keys, advice } = now, last = samples[samples.length - 1] || {};
  $("name").textContent = r.name; document.title = (r.ready ? "" : "! ") + r.name + " · Forebay";
  $("version").textContent = `Forebay ${r.version}, up ${time(r.uptime_seconds)}`;
  const b = r.buffer, out = r.publish, backlog = b ? b.unpublished_frames : 0, behind = out.oldest_unpublished_seconds;
  const draining = r.ready && last.published > 0 && behind > 10;
  $("state").className = "pill " + (!r.ready ? "bad" : draining || behind > 60 ? "wait" : "good");
  const pill = !r.ready ? "not ready" : draining ? "catching up" : behind > 60 ? "behind" : "healthy";
  if ($("state").textContent !== pill) $("state").textContent = pill;
  const text = JSON.stringify(r.findings.map((f) => [f.subject, f.severity, f.hint, f.command, f.fact.replace(/\d+ s\b/g, "")]));
  const box = $("findings");
  if (text !== shown) { box.replaceChildren(...r.findings.map(finding)); shown = text; }
  station("source", r.ingest.paused ? "wait" : r.ingest.connected ? "good" : "bad", r.ingest.paused ? "paused" : r.ingest.connected ? "connected" : "not connected",
    `retains ${bytes(r.slot.retained_wal_bytes)} of WAL; confirmed ${r.ingest.confirmed_lsn || "nothing yet"}`);
  pipe("pipe-in", now.received, r.ingest.paused || !r.ingest.connected, "translate: " + rate(now.received) + " received");
  const used = b ? b.bytes / b.max_bytes : 0;
  station("log", used > .8 ? "bad" : backlog > 0 && behind > 10 ? "wait" : "good", b ? count(backlog) + " waiting" : "not open",
    b ? `${bytes(b.bytes)} of ${bytes(b.max_bytes)}; oldest ${backlog ? time(behind) : "none"}` : "the start reads the buffer directory");
  const tank = $("log").querySelector(".tank"); tank.setAttribute("aria-valuenow", Math.round(used * 100)); tank.firstElementChild.style.width = Math.max(used * 100, backlog ? 1 : 0) + "%";
  pipe("pipe-out", now.published, !out.available, "publish: " + rate(now.published) + " acknowledged");
  const trouble = out.shards_refusing || out.shards_limited || out.lanes_detached;
  station("stream", !out.available ? "bad" : trouble ? "wait" : "good", out.available ? "available" : "not available",
    !out.available ? "records wait in the log" : trouble ? `shards limited: ${out.shards_limited}, refusing: ${out.shards_refusing}; lanes detached: ${out.lanes_detached}`
      : `${out.requests_in_flight} requests in flight; latency ${time(last.p50)}`);
  rows("types", types, (t) => { const q = el("td", t.quarantined ? "mark" : "", count(t.quarantined)); return row(t.type, [el("td", "", count(t.received)), el("td", "", count(t.filtered)), el("td", "", count(t.published)), q]); });
  $("types-note").textContent = types.length ? (now.types_left_out ? `${count(now.types_left_out)} more types: forebay report lists them.` : "Published and quarantined count since the directory was created. forebay report shows hours and days.") : "No event yet.";
  const all = shards.reduce((n, s) => n + s.records, 0);
  rows("shards", shards, (s) => { const th = el("td", s.throttled ? "mark" : "", count(s.throttled)); return row(s.shard.replace("shardId-", "").replace(/^0+(?=\d)/, ""), [el("td", "", count(s.records)), share(all ? s.records / all : 0), th], s.shard); });
  rows("keys", keys.list, (k) => row(k.key, [el("td", "", count(k.events)), share(keys.total ? k.events / keys.total : 0)], k.key));
  $("advice").textContent = advice;
}

let wait = 1;
function connect() {
  const live = new EventSource("/live");
  live.addEventListener("history", (e) => { const h = JSON.parse(e.data); samples = h.samples; every = h.every_seconds; kept = h.kept; PLOTS.forEach(plot); wait = 1; });
  live.addEventListener("now", (e) => {
    now = JSON.parse(e.data);
    if (now.sample && (!samples.length || samples[samples.length - 1].at < now.sample.at)) { samples.push(now.sample); if (samples.length > kept) samples.shift(); PLOTS.forEach(plot); }
    state(); document.body.dataset.live = "yes";
  });
  live.onerror = () => {
    $("state").className = "pill wait"; $("state").textContent = "no connection to the daemon";
    // A browser does not try again by itself after a refusal.
    if (live.readyState === EventSource.CLOSED) { live.close(); setTimeout(connect, wait * 1000); wait = Math.min(30, wait * 2); }
  };
}
PLOTS.forEach(plot);
connect();
