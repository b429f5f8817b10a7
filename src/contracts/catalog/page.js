"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const by = (id) => document.getElementById(id);

  // Search: every word somewhere in the event, in any order.
  const input = by("search"), found = by("found"), nothing = by("nothing");
  const articles = all("article").map((element) => ({ element, text: `${element.textContent} ${element.dataset.terms ?? ""}`.toLowerCase() }));
  const entries = all("nav li");
  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = new Set();
    let count = 0;
    for (const { element, text } of articles) {
      const fits = words.every((word) => text.includes(word));
      element.hidden = !fits;
      if (fits) { count += 1; groups.add(element.dataset.group); }
    }
    for (const folded of all(".folded")) {
      const fits = folded.querySelector("article:not([hidden])") !== null;
      folded.hidden = !fits;
      folded.open = words.length > 0 && fits;
    }
    for (const entry of entries) entry.hidden = !groups.has(entry.dataset.group);
    for (const list of all("nav ul")) list.previousElementSibling.hidden = list.hidden = !list.querySelector("li:not([hidden])");
    for (const section of all(".domain")) section.hidden = !section.querySelector("article:not([hidden])");
    found.textContent = words.length ? `${count} of ${articles.length}` : "";
    nothing.hidden = count > 0 || !articles.length;
  };
  // The folded list of an event is opened before the page scrolls to it.
  const show = (element) => {
    const folded = element.closest("details.folded");
    if (folded) folded.open = true;
    element.scrollIntoView();
  };
  const clear = () => { input.value = ""; search(); };
  all(".search")[0].hidden = false;
  input.addEventListener("input", search);
  input.form.addEventListener("submit", (event) => {
    event.preventDefault();
    const first = articles.find(({ element }) => !element.hidden);
    if (!first) return;
    show(first.element);
    history.replaceState(null, "", "#" + first.element.id);
    first.element.focus({ preventScroll: true });
  });
  nothing.querySelector("button").addEventListener("click", () => { clear(); input.focus(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === "Escape" && event.target === input) {
      clear();
      input.blur();
    }
  });
  // A link to a hidden event clears the search.
  const reveal = () => {
    const target = by(location.hash.slice(1));
    if (!target) return;
    if (target.closest("[hidden]")) clear();
    if (target.closest("details.folded")) show(target);
  };
  window.addEventListener("hashchange", reveal);
  reveal();

  // On a narrow screen the list is closed at first and after a choice.
  const menu = all(".menu")[0], narrow = matchMedia("(max-width: 52rem)");
  const fold = () => { menu.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  menu.addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) menu.open = false; });
  input.addEventListener("input", () => { if (narrow.matches && input.value) menu.open = true; });

  // Everything is printed, also what is folded.
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = all(".folded:not([open])");
    for (const folded of closed) folded.open = true;
    for (const figure of all(".example")) colour(figure);
  });
  window.addEventListener("afterprint", () => { for (const folded of closed) folded.open = false; });

  // Mark the current event in the list.
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new Set();
  const observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) seen[isIntersecting ? "add" : "delete"](target.id);
    for (const link of links.values()) link.removeAttribute("aria-current");
    const first = articles.find(({ element }) => seen.has(element.id));
    if (first) links.get(first.element.id)?.setAttribute("aria-current", "true");
  }, { rootMargin: "-10% 0px -70% 0px" });
  for (const { element } of articles) observer.observe(element);

  // Whole days in UTC, like the dates.
  const today = Math.floor(Date.now() / 864e5);
  for (const sunset of all("[data-sunset]")) {
    const days = Math.floor(Date.parse(sunset.dateTime) / 864e5) - today;
    if (Number.isNaN(days)) continue;
    const plural = Math.abs(days) === 1 ? "" : "s";
    const text = days > 0 ? `${days} more day${plural}` : days === 0 ? "until today" : `ended ${-days} day${plural} ago, may be removed at any time`;
    const note = Object.assign(document.createElement("strong"), { textContent: ` (${text})` });
    if (days < 30) note.className = "soon";
    sunset.after(note);
  }

  // Examples: colours and a copy button.
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\b\d[\d.eE+-]*/g;
  // A figure is coloured when it comes near, so that a long page opens at once.
  const near = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) if (isIntersecting) { near.unobserve(target); colour(target); }
  }, { rootMargin: "50% 0px" });
  for (const figure of all("article .example, .reading .example")) near.observe(figure);
  function colour(figure) {
    if (figure.querySelector("button")) return;
    const code = figure.querySelector("code"), text = code.textContent;
    if (text.startsWith("{")) {
      const parts = [];
      let end = 0;
      for (const match of text.matchAll(token)) {
        const kind = match[2] !== undefined ? "k" : match[1] !== undefined ? "s" : match[3] ? "w" : "n";
        parts.push(text.slice(end, match.index));
        const length = kind === "k" ? match[1].length : match[0].length;
        parts.push(Object.assign(document.createElement("span"), { className: kind, textContent: match[0].slice(0, length) }));
        end = match.index + length;
      }
      code.replaceChildren(...parts, text.slice(end));
    }
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    figure.querySelector("figcaption").append(button);
  }
})();
