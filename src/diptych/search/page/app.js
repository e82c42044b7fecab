// The search page. Everything it shows comes from this server; nothing is stored but the token, in this tab.
"use strict";

const $ = (id) => document.getElementById(id);
const WAIT = 180; // milliseconds after the last key
const SIDE = 512; // pixels that a dropped picture is shrunk to before it is sent
const AWAY = -0.5; // weight of what is asked away
const IDEAS = ["a red apple", "something to drink", "an animal that flies", "a happy face"];

let parts = []; // pictures of the query: {id | image, name, src, weight}
let asked = 0, shown = 0; // numbers of the newest request, and of the one whose answer is on the page
let running = null, timer = 0, back = 0;
let about = null, query = null; // what the server has; the query whose answer is on the page

// ---- talking to the server

class Failure extends Error {
  constructor(status, told, retry) {
    super(told.what);
    Object.assign(this, { status, told, retry });
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const told = body?.error ?? { what: `status ${answer.status}`, why: "the server did not say why", mend: "Look into its log" };
  throw new Failure(answer.status, told, Number(answer.headers.get("Retry-After")) || 0);
}

const post = (path, body, signal) =>
  call(path, { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function showPicture(image, path) {
  if (!sessionStorage.getItem("token")) {
    image.src = path;
    return;
  }
  try {
    image.src = URL.createObjectURL(await (await call(path)).blob());
    image.onload = () => URL.revokeObjectURL(image.src);
  } catch (error) {
    image.alt = `${image.alt} (cannot be shown)`;
  }
}

// ---- the query

function written() {
  const words = [];
  const text = $("words").value.trim(), without = $("without").value.trim();
  if (text) words.push({ text, weight: 1 });
  if (without) words.push({ text: without, weight: AWAY });
  return {
    words,
    images: parts.filter((p) => p.image).map(({ image, weight }) => ({ image, weight })),
    like: parts.filter((p) => p.id).map(({ id, weight }) => ({ id, weight })),
  };
}

const asks = (q) => [...q.words, ...q.images, ...q.like].some((part) => part.weight > 0);

function later() {
  clearTimeout(timer);
  timer = setTimeout(search, WAIT);
}

async function search() {
  clearTimeout(timer);
  remember(false);
  running?.abort();
  const turn = ++asked;
  const wanted = written();
  renderFilters();
  if (!about || about.pictures === null) return;
  if (!asks(wanted)) {
    query = null;
    settle(turn);
    welcome([...wanted.words, ...wanted.images, ...wanted.like].length > 0);
    return;
  }
  running = new AbortController();
  $("results").classList.add("stale");
  const where = $("where").value.trim();
  const body = { ...wanted, k: Number($("count").value), diverse: $("diverse").checked ? 0.5 : 0, ...(where && { where }) };
  try {
    const started = performance.now();
    const answer = await (await post("/search", body, running.signal)).json();
    if (turn < shown) return; // a newer answer is on the page already
    settle(turn);
    query = wanted;
    render(answer, performance.now() - started);
  } catch (error) {
    if (error.name !== "AbortError" && turn >= shown && turn === asked) failed(error, turn, search);
  }
}

function settle(turn) {
  shown = turn;
  $("results").classList.remove("stale");
  $("notice").hidden = true;
}

function failed(error, turn, again) {
  if (!(error instanceof Failure)) return down();
  if (error.status === 401) return askForToken(again);
  if (error.status === 429 || error.status === 503) {
    say(`The server is busy. Trying again in ${error.retry || 1} s.`, true);
    timer = setTimeout(again, 1000 * (error.retry || 1));
    return undefined;
  }
  settle(turn);
  $("results").replaceChildren();
  $("status").textContent = "";
  $("empty").hidden = true;
  const { what, why, mend } = error.told;
  say([strong(what), `: ${why}. ${mend}${mend.endsWith("?") ? "" : "."}`]);
  return undefined;
}

const strong = (text) => Object.assign(document.createElement("strong"), { textContent: text });

function say(content, calm = false) {
  const notice = $("notice");
  notice.replaceChildren(...[content].flat());
  notice.classList.toggle("calm", calm);
  notice.hidden = false;
}

function down() {
  say([strong("The server does not answer."), " It may have been stopped. This page goes on when it is back."]);
  $("results").classList.add("stale");
  clearTimeout(back);
  back = setTimeout(look, 1500);
}

async function look() {
  try {
    await call("/healthz");
    await start();
  } catch {
    back = setTimeout(look, 1500);
  }
}

// ---- what is on the page

function render(answer, milliseconds) {
  const { results } = answer;
  const found = results.length;
  $("empty").hidden = found > 0;
  if (!found) {
    $("empty").replaceChildren(heading("Nothing to compare with"), paragraph($("where").value ? "The filter leaves no picture." : "The index holds no other picture."));
  }
  $("results").classList.toggle("weak", found > 0 && !answer.answer);
  $("results").replaceChildren(...results.map(card));
  const seconds = (milliseconds / 1000).toFixed(2);
  $("status").textContent = found ? `${answer.answer ? `${found} best` : "The nearest"} of ${number(answer.searched)} pictures, ${seconds} s` : "";
  if (found && !answer.answer) say([strong("No good match."), " Nothing in the index is close to this query. Below is what comes nearest."], true);
}

function card(hit) {
  const made = $("card").content.cloneNode(true).firstElementChild;
  const name = hit.caption || hit.label || hit.name;
  const image = made.querySelector("img");
  image.alt = name;
  showPicture(image, `/pictures/${hit.id}`);
  made.dataset.id = hit.id;
  made.querySelector(".caption").textContent = name;
  made.querySelector("meter").value = hit.score;
  made.querySelector("meter").ariaLabel = "match";
  made.querySelector(".percent").textContent = `${Math.round(100 * hit.score)} %`;
  const twins = hit.duplicates.length;
  made.querySelector(".twins").hidden = !twins;
  made.querySelector(".twins").textContent = `${twins} more alike`;
  const on = (selector, label, act) => {
    const button = made.querySelector(selector);
    button.ariaLabel = `${label}: ${name}`;
    button.addEventListener("click", act);
  };
  on(".open", "Find similar", () => similar(hit, name));
  on(".plus", "Add to the query", () => add({ id: hit.id, name, weight: 1 }));
  on(".minus", "Ask away", () => add({ id: hit.id, name, weight: AWAY }));
  on(".details", "Details", () => view(hit, name));
  on(".right", "Right answer", () => judge(hit.id, true, made));
  on(".wrong", "Wrong answer", () => judge(hit.id, false, made));
  return made;
}

function renderParts() {
  $("parts").replaceChildren(...parts.map((part, at) => {
    const item = document.createElement("li");
    item.className = part.weight < 0 ? "part away" : "part";
    const sign = control(part.weight < 0 ? "−" : "+", `${part.weight < 0 ? "Asked away" : "Asked for"}: ${part.name}. Turn round`, () => {
      parts[at] = { ...part, weight: part.weight < 0 ? 1 : AWAY };
      changed();
    });
    sign.className = "sign";
    const image = Object.assign(document.createElement("img"), { alt: "" });
    part.image ? (image.src = part.image) : showPicture(image, `/pictures/${part.id}`);
    const name = Object.assign(document.createElement("span"), { textContent: part.name });
    item.append(sign, image, name, control("✕", `Remove ${part.name}`, () => {
      parts.splice(at, 1);
      changed();
      $("words").focus();
    }));
    return item;
  }));
}

function control(text, label, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, title: label, ariaLabel: label });
  button.addEventListener("click", act);
  return button;
}

function renderFilters() {
  const set = [$("without").value.trim() && "without", $("where").value.trim() && "where", $("diverse").checked && "varied"].filter(Boolean);
  $("filtered").textContent = set.length && !$("more").open ? set.join(", ") : "";
}

function welcome(onlyAway) {
  $("results").replaceChildren();
  $("status").textContent = "";
  const box = $("empty");
  box.hidden = false;
  if (about.pictures === 0) {
    box.replaceChildren(heading("The index is empty"), paragraph("Add pictures with: diptych index FOLDER"));
    return;
  }
  const ideas = document.createElement("ul");
  ideas.append(...IDEAS.map((text) => {
    const item = document.createElement("li");
    item.append(control(text, `Search for ${text}`, () => {
      $("words").value = text;
      changed();
    }));
    return item;
  }));
  const line = onlyAway ? "Something has to be asked for as well: words, or a picture with a plus." : "Type words, or drop a picture anywhere on this page.";
  const keys = document.createElement("p");
  keys.className = "small";
  keys.append(key("/"), " to type, ", key("←"), " ", key("→"), " through the results, ", key("Enter"), " for similar ones, ", key("Esc"), " to start again");
  box.replaceChildren(heading(`Search ${number(about.pictures)} pictures`), paragraph(line), ideas, keys);
}

const heading = (text) => Object.assign(document.createElement("h2"), { textContent: text });
const paragraph = (text) => Object.assign(document.createElement("p"), { textContent: text });
const key = (text) => Object.assign(document.createElement("kbd"), { textContent: text });
const number = (value) => value.toLocaleString("en");

function view(hit, name) {
  $("view-title").textContent = name;
  $("view-image").alt = name;
  showPicture($("view-image"), `/pictures/${hit.id}?size=1280`);
  const facts = { match: `${Math.round(100 * hit.score)} %`, similarity: hit.similarity.toFixed(3), file: hit.name, label: hit.label, ...hit.meta, id: hit.id };
  $("facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null && value !== "").flatMap(([word, value]) => [
    Object.assign(document.createElement("dt"), { textContent: word }),
    Object.assign(document.createElement("dd"), { textContent: typeof value === "object" ? JSON.stringify(value) : String(value) }),
  ]));
  $("view-similar").onclick = () => {
    $("view").close();
    similar(hit, name);
  };
  $("view").showModal();
}

// ---- changing the query

function changed() {
  renderParts();
  remember(true);
  search();
}

function similar(hit, name) {
  parts = [{ id: hit.id, name, weight: 1 }];
  $("words").value = "";
  $("without").value = "";
  changed();
  scrollTo({ top: 0 });
}

function add(part) {
  parts = [...parts.filter((other) => !part.id || other.id !== part.id), part].slice(-8);
  changed();
}

async function judge(id, right, made) {
  try {
    await post("/feedback", { query, id, right });
    made.querySelector(".right").ariaPressed = String(right);
    made.querySelector(".wrong").ariaPressed = String(!right);
  } catch (error) {
    failed(error, shown, () => judge(id, right, made));
  }
}

async function take(files) {
  for (const file of [...files].slice(0, 4)) {
    try {
      add({ image: await small(file), name: file.name || "your picture", weight: 1 });
    } catch {
      say([strong(file.name || "This file"), " is not a picture that the browser can read. Give a JPEG, PNG, WebP or GIF."]);
    }
  }
}

// A picture as a small data URL: what the model reads is smaller still, and the server is spared large uploads.
async function small(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, SIDE / Math.min(bitmap.width, bitmap.height), 2048 / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const draw = canvas.getContext("2d");
  draw.imageSmoothingQuality = "high";
  draw.fillStyle = "#ffffff";
  draw.fillRect(0, 0, canvas.width, canvas.height);
  draw.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png").length < 2e6 ? canvas.toDataURL("image/png") : canvas.toDataURL("image/jpeg", 0.92);
}

function clear() {
  parts = [];
  for (const id of ["words", "without", "where"]) $(id).value = "";
  $("diverse").checked = false;
  changed();
  $("words").focus();
}

// ---- the address bar: the query is in it, so that it can be kept and gone back to (pictures from the disk cannot)

function remember(step) {
  const said = new URLSearchParams();
  const put = (name, value) => value && said.set(name, value);
  put("q", $("words").value.trim());
  put("without", $("without").value.trim());
  put("where", $("where").value.trim());
  put("varied", $("diverse").checked ? "1" : "");
  put("show", $("count").value === "24" ? "" : $("count").value);
  put("like", parts.filter((p) => p.id).map((p) => `${p.id}:${p.weight}:${encodeURIComponent(p.name)}`).join(","));
  const hash = said.size ? `#${said}` : "";
  if (hash === location.hash) return;
  step ? history.pushState(null, "", hash || location.pathname) : history.replaceState(null, "", hash || location.pathname);
}

function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  $("words").value = said.get("q") ?? "";
  $("without").value = said.get("without") ?? "";
  $("where").value = said.get("where") ?? "";
  $("diverse").checked = said.get("varied") === "1";
  $("count").value = ["48", "96", "200"].includes(said.get("show")) ? said.get("show") : "24";
  parts = (said.get("like") ?? "").split(",").map((text) => text.split(":")).filter(([id]) => /^[0-9a-f]{16}$/.test(id)).slice(0, 8)
    .map(([id, weight, name]) => ({ id, weight: Number(weight) < 0 ? AWAY : 1, name: decodeURIComponent(name ?? "") || "picture" }));
  $("more").open ||= Boolean($("without").value || $("where").value);
  renderParts();
}

// ---- keyboard, dropping, pasting

function keys(event) {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea") && event.target.type !== "checkbox";
  const cards = [...document.querySelectorAll(".card .open")];
  const at = cards.indexOf(event.target.closest(".card")?.querySelector(".open"));
  if (event.key === "Escape") clear();
  else if (event.key === "/" && !typing) $("words").select();
  else if (event.key === "ArrowDown" && event.target === $("words") && cards.length) cards[0].focus();
  else if (at >= 0 && event.key.startsWith("Arrow")) {
    const row = cards.filter((other) => other.offsetParent && other.getBoundingClientRect().top === cards[0].getBoundingClientRect().top).length;
    const to = at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[event.key];
    to < 0 ? $("words").focus() : cards[Math.min(to, cards.length - 1)].focus();
  } else if (at >= 0 && (event.key === "+" || event.key === "-")) cards[at].closest(".card").querySelector(event.key === "+" ? ".plus" : ".minus").click();
  else return;
  event.preventDefault();
}

function askForToken(again) {
  $("ask").showModal();
  $("ask-form").onsubmit = () => {
    sessionStorage.setItem("token", $("token").value.trim());
    $("token").value = "";
    again();
  };
}

function listen() {
  for (const id of ["words", "without", "where"]) $(id).addEventListener("input", later);
  for (const id of ["count", "diverse"]) $(id).addEventListener("change", changed);
  $("more").addEventListener("toggle", renderFilters);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => take($("file").files).then(() => ($("file").value = "")));
  addEventListener("keydown", keys);
  addEventListener("popstate", () => {
    recall();
    search();
  });
  addEventListener("paste", (event) => event.clipboardData?.files.length && take(event.clipboardData.files));
  let depth = 0;
  const over = (step) => ($("drop").hidden = (depth = Math.max(0, depth + step)) === 0);
  addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && over(1));
  addEventListener("dragleave", (event) => event.dataTransfer?.types.includes("Files") && over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (event.dataTransfer?.files.length) take(event.dataTransfer.files);
  });
}

async function start() {
  try {
    about = await (await call("/about")).json();
  } catch (error) {
    failed(error, shown, start);
    return;
  }
  const { model, pictures, columns } = about;
  $("about").textContent = pictures === null ? model : `${number(pictures)} pictures · ${model}`;
  $("columns").textContent = columns?.length ? `Columns: ${columns.join(", ")}` : "";
  $("notice").hidden = true;
  if (pictures === null) {
    $("form").hidden = true;
    $("empty").hidden = false;
    $("empty").replaceChildren(heading("This server has a model and no index"), paragraph("Start it with one to search here: diptych serve --index FOLDER"));
    return;
  }
  search();
}

listen();
recall();
start();
