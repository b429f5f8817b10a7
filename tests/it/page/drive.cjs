// Opens the status page in a browser and says, as one JSON object, what a person sees: drive.cjs URL BROWSER MODULES [FOLDER]
// With a folder, it leaves a screenshot of each view there.
const { createRequire } = require("node:module");
const fs = require("node:fs");
const path = require("node:path");
const [, , url, browserPath, modules, folder] = process.argv;
const load = createRequire(path.join(modules, "node_modules", "x.js"));
const puppeteer = load("puppeteer-core");
const axe = fs.readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

const VIEWS = [
  { name: "desktop-light", width: 1280, height: 900, scheme: "light" },
  { name: "desktop-dark", width: 1280, height: 900, scheme: "dark" },
  { name: "phone-light", width: 390, height: 844, scheme: "light" },
  { name: "phone-dark", width: 390, height: 844, scheme: "dark" },
];

async function view(browser, { name, width, height, scheme }) {
  const page = await browser.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  const foreign = [];
  page.on("request", (request) => !request.url().startsWith(url) && !request.url().startsWith("data:") && foreign.push(request.url()));
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.goto(url, { waitUntil: "domcontentloaded" });
  await page.waitForSelector("body[data-live]");
  await page.waitForSelector("#plot-backlog path.a");
  const seen = await page.evaluate(() => {
    const text = (selector) => document.querySelector(selector)?.textContent ?? "";
    return {
      title: document.title,
      state: text("#state"),
      findings: [...document.querySelectorAll(".finding")].map((e) => e.textContent),
      source: text("#source b"),
      log: text("#log b"),
      stream: text("#stream b"),
      types: [...document.querySelectorAll("#types tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent)),
      shards: document.querySelectorAll("#shards tbody tr").length,
      plots: [...document.querySelectorAll("#plots svg")].map((svg) => svg.getAttribute("aria-label")),
      outage: document.querySelectorAll("#plot-backlog .outage").length,
      overflow: document.documentElement.scrollWidth - window.innerWidth,
      background: getComputedStyle(document.body).backgroundColor,
    };
  });
  // Everything that can be used is reached by the keyboard, and the first stop skips to the state.
  const stops = [];
  for (let n = 0; n < 14; n += 1) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate(() => document.activeElement.getAttribute("href") || document.activeElement.getAttribute("aria-label") || document.activeElement.tagName));
  }
  if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
  await page.evaluate(axe);
  const judged = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
  const violations = judged.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.html.slice(0, 200)).join(" ")}`);
  await page.close();
  return { name, ...seen, stops, errors, foreign, violations };
}

(async () => {
  const browser = await puppeteer.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu"] });
  const views = [];
  for (const one of VIEWS) views.push(await view(browser, one));
  await browser.close();
  console.log(JSON.stringify(views));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
