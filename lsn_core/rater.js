// The rater of the visual Turing test: radiographs one by one, real or synthetic, a confidence, and a clock.
// `mount` serves a page without a kernel, `render` (anywidget) a notebook. The truth is in neither; only that of the
// training examples, which are declared as such and are not counted.

const COLUMNS = ["set", "reader", "position", "image", "answer", "confidence", "seconds", "when"];
const ANSWERS = ["real", "synthetic"], LEVELS = [1, 2, 3, 4, 5];

// ---- answers: a mark for each image by its name, and the rows of the CSV file, which are texts

const complete = (mark) => Boolean(mark?.answer && mark.confidence);

// One row for each image that has both an answer and a confidence, in the order of showing.
function toRows(set, reader, marks) {
  return set.images.flatMap(({ name }, position) => {
    const { answer, confidence, seconds, when } = marks[name] ?? {};
    const row = [set.key, reader, position, name, answer, confidence, seconds?.toFixed(2), when];
    return complete(marks[name]) ? [row.map(String)] : [];
  });
}

const toMarks = (rows) => Object.fromEntries(rows.map(([, , , name, answer, confidence, seconds, when]) =>
  [name, { answer, confidence: Number(confidence), seconds: Number(seconds), when }]));

// Take from `others` what `marks` lack or have from before: two tabs, or a file and this browser, have one reader.
function merge(marks, others) {
  for (const [name, other] of Object.entries(others)) {
    if (!marks[name] || (other.when ?? "") > (marks[name].when ?? "")) marks[name] = other;
  }
  return marks;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
const toCsv = (rows) => [COLUMNS, ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");

function fromCsv(text) {
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y, rows = [[]], end = text.length;
  cell.lastIndex = text.startsWith("\ufeff") ? 1 : 0; // a byte order mark, which spreadsheets write
  while (cell.lastIndex < end) {
    const found = cell.exec(text);
    if (!found) throw new Error("not a CSV file");
    rows[rows.length - 1].push(found[1] === undefined ? found[2] : found[1].replace(/""/g, '"'));
    if (found[3] !== "," && cell.lastIndex < end) rows.push([]);
  }
  return rows;
}

function sound(set, [, , position, name, answer, confidence, seconds, when]) {
  const time = seconds !== "" && Number(seconds) >= 0 && !Number.isNaN(Date.parse(when));
  const named = set.images[Number(position)]?.name === name; // a position and a name that belong together
  return named && ANSWERS.includes(answer) && LEVELS.includes(Number(confidence)) && time;
}

// Why the rows of a CSV file are not answers to this set, or nothing where they are.
function fault(set, [header, ...rows]) {
  if (String(header) !== String(COLUMNS)) return `it does not begin with “${COLUMNS}”; choose a file of this page`;
  if (!rows.length) return "it holds no answers; start without it";
  if (rows.some((row) => row[0] !== set.key)) return "it belongs to another set of images; open the page of that set";
  if (rows.some((row) => row[1] !== rows[0][1])) return "it holds more than one reader; choose the file of one";
  const bad = rows.findIndex((row) => !sound(set, row)) + 1;
  return bad ? `line ${bad + 1} is damaged; restore the line or remove it` : "";
}

const nameFault = (reader) => (!reader ? "Give your name or code first." : !/^simulated/i.test(reader) ? ""
  : "Names that begin with “simulated” belong to simulated readers; choose another.");

// ---- where marks are kept: `load` gives those of a reader, `save` keeps them, `told` says how that went

function browserStore(set) {
  const place = (reader) => `lsn-turing:${set.key}:${reader}`, where = "in this browser";
  const tried = (action) => { try { return action(); } catch { return null; } };
  const load = (reader) => tried(() => JSON.parse(localStorage.getItem(place(reader)))) ?? {};
  const save = (reader, marks) => tried(() => localStorage.setItem(place(reader), JSON.stringify(marks))) !== null;
  const lost = `Not saved ${where}: download the CSV before you close this page.`;
  return { load, save, where, works: save("", {}), told: (kept) => (kept ? `Saved ${where}.` : lost) }; // "" is nobody
}

// Python writes the file after each change of `serial`, and then lets `written` follow it.
function modelStore(model) {
  const load = () => toMarks(model.get("rows")), where = `in ${model.get("path")}`;
  const save = (reader, marks, rows) => {
    if (String(rows) === String(model.get("rows"))) return true;
    model.set("rows", rows);
    model.set("serial", model.get("serial") + 1);
    model.save_changes();
    return true;
  };
  const how = () => (model.get("written") === model.get("serial") ? `Saved ${where}.` : `Saving ${where} …`);
  return { load, save, where, works: true, told: () => model.get("trouble") || how() };
}

// ---- what is shown

const html = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const button = (action, text, more = "") => `<button type="button" data-do="${action}" ${more}>${text}</button>`;
const urlOf = (png) => (typeof png === "string" ? `data:image/png;base64,${png}`
  : URL.createObjectURL(new Blob([png], { type: "image/png" })));

function startPage({ set, store, fixed }) {
  const trained = set.training.length ? ` First come ${set.training.length} training examples, declared as training:
    each shows its true answer after yours, and none is counted.` : "";
  const who = fixed ? `<p>Reader: <strong>${html(fixed)}</strong></p>` : `<p><label>Your name or code
    <input type="text" maxlength="60" autocomplete="off" spellcheck="false"></label></p>`;
  const load = fixed ? "" : `<p class="lsn-load"><label>Or go on from a CSV file that you saved
    <input type="file" accept=".csv,text/csv"></label></p>`;
  return `<h1>${html(set.title)}</h1>
    <p>You will see ${set.images.length} radiographs of finger joints, one at a time. Some are real; the others are
    synthetic: a computer program made them. Say of each which it is, and how sure you are, from 1 (a guess) to
    5 (certain).${trained}</p>
    <p>This is research on synthetic images, and no diagnosis. How long each image is shown is measured; Pause hides it
    and stops the clock. Take as long as you need, and stop when you like. Nothing is sent anywhere.
    ${store.works ? `Answers, times and your name or code are saved ${html(store.where)} after every answer.</p>`
    : `</p><p class="lsn-warning">This browser does not let this page save anything. Use “Download CSV” before you
    close it, and load that file here to go on.</p>`}
    ${who}${load}<p class="lsn-status" role="status"></p>
    <p class="lsn-row">${button("begin", "Start", 'class="lsn-first"')}</p>`;
}

function ratePage({ fixed, group }) {
  const answer = (value, text) => `<button type="button" data-answer="${value}">${text}</button>`;
  const levels = LEVELS.map((level) => `<label><input type="radio" name="${group}" value="${level}">
    <span>${level}</span></label>`).join("");
  return `<div class="lsn-view" tabindex="-1"><img alt=""><p class="lsn-paused">Paused</p></div>
    <div class="lsn-controls">
    <p class="lsn-count" aria-live="polite"></p><progress aria-label="Answered"></progress>
    <div class="lsn-row" role="group" aria-label="Real or synthetic">
    ${answer("real", "Real <kbd>R</kbd>")}${answer("synthetic", "Synthetic <kbd>S</kbd>")}</div>
    <fieldset><legend>Confidence <small>1 a guess, 5 certain</small></legend>
    <div class="lsn-row">${levels}</div></fieldset>
    <p class="lsn-truth" role="status"></p>
    <div class="lsn-row">${button("back", "Back")}${button("next", "Next", 'class="lsn-first"')}</div>
    <div class="lsn-row">${button("pause", "Pause")}${fixed ? "" : button("download", "Download CSV")}</div>
    <p class="lsn-status" role="status"></p>
    <p class="lsn-keys"> <kbd>R</kbd> or <kbd>←</kbd> real, <kbd>S</kbd> or <kbd>→</kbd> synthetic,
    <kbd>1</kbd>–<kbd>5</kbd> confidence, <kbd>Enter</kbd> or <kbd>Space</kbd> next, <kbd>B</kbd> or
    <kbd>Backspace</kbd> back, <kbd>P</kbd> pause</p></div>`;
}

function donePage({ set, fixed }) {
  const what = fixed ? "" : "Download the CSV file, and give it to those who gave you this page.";
  return `<h1 tabindex="-1">Thank you</h1><p>All ${set.images.length} radiographs are answered. ${what}</p>
    <p class="lsn-row">${fixed ? "" : button("download", "Download CSV", 'class="lsn-first"')}
    ${button("back", "Back to the last")}</p><p class="lsn-status" role="status"></p>`;
}

// ---- the rater

class Rater {
  constructor(root, set, { reader, store, keys }) {
    Object.assign(this, { root, set, store, fixed: reader, keys, reader, marks: {}, practice: {}, at: 0, since: null });
    this.group = `lsn-${Math.random().toString(36).slice(2)}`; // the radios of two raters on a page are two groups
    this.kept = store.works;
    this.fresh = false; // whether there are answers in no file and no browser
    // An image that was scrolled away, or is in a notebook behind another tab, is not on the screen.
    this.watch = new IntersectionObserver((seen) => seen[seen.length - 1].isIntersecting || this.pause(true));
    new ResizeObserver(() => this.fit()).observe(root);
    this.turnTo("start", startPage);
    this.name(reader);
  }

  find(selector) { return this.root.querySelector(selector); }
  get training() { return this.phase === "training"; }
  get images() { return this.training ? this.set.training : this.set.images; }
  get shown() { return this.phase === "rating" || this.training; }
  get rows() { return toRows(this.set, this.reader, this.marks); }
  get paused() { return this.shown && this.since === null; }
  get mark() { return (this.training ? this.practice : this.marks)[this.images[this.at].name] ??= { seconds: 0 }; }

  turnTo(phase, page) {
    this.watch.disconnect();
    Object.assign(this, { phase, since: null });
    this.root.dataset.phase = phase;
    this.root.innerHTML = page(this);
    if (!this.shown) return;
    this.find(".lsn-view").scrollIntoView({ block: "nearest" });
    this.watch.observe(this.find(".lsn-view"));
  }

  // ---- the start page

  name(reader) { // who reads, and what this reader answered before
    this.reader = reader.trim().replace(/\s+/g, " ");
    this.marks = this.store.load(this.reader);
    this.tellStart();
  }

  tellStart(trouble = "") {
    const done = this.rows.length, { training, images } = this.set;
    const trained = training.length ? "Start with the training examples" : "Start";
    this.find("[data-do=begin]").textContent = done ? "Go on where you stopped" : trained;
    this.say(trouble || (done ? `${done} of ${images.length} answered by ${this.reader}.` : ""), Boolean(trouble));
  }

  tellSaved() {
    const text = this.store.told(this.kept), well = text.startsWith("Sav");
    this.say(well && (this.training || !this.rows.length) ? "" : text, !well);
  }

  say(text, wrong) {
    const line = this.find(".lsn-status");
    line.classList.toggle("lsn-warning", wrong);
    if (line.textContent !== text) line.textContent = text; // or a screen reader says it again
  }

  load(text) { // a CSV file that this reader saved
    let rows, why;
    try { rows = fromCsv(text); why = fault(this.set, rows); } catch (error) { why = error.message; }
    const whose = why ? "" : rows[1][1];
    if (!why && this.reader && whose !== this.reader) why = `it is by ${whose}, and the name above is ${this.reader}`;
    if (why) return this.tellStart(`The file was not loaded: ${why}.`);
    this.find("input[type=text]").value = this.reader = whose;
    this.marks = merge(toMarks(rows.slice(1)), this.store.load(whose));
    this.keep();
    return this.tellStart();
  }

  begin() {
    const trouble = nameFault(this.reader);
    if (trouble) return this.tellStart(trouble);
    this.turnTo(this.set.training.length && !this.rows.length ? "training" : "rating", ratePage);
    return this.show(this.training ? 0 : this.firstOpen());
  }

  firstOpen() {
    const open = this.set.images.findIndex(({ name }) => !complete(this.marks[name]));
    return open < 0 ? this.set.images.length : open;
  }

  // ---- the images

  show(at) { // the image at a position; beyond the last, what comes next
    const all = this.images.length, said = `${this.training ? "training " : ""}radiograph ${at + 1} of ${all}`;
    if (at >= all) return this.training ? this.endTraining() : this.finish();
    const image = this.find("img");
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    Object.assign(image, { src: urlOf(this.images[at].png), alt: said });
    Object.assign(this, { at, since: performance.now() });
    this.find(".lsn-view").focus({ preventScroll: true }); // else a notebook takes the keys once Next is disabled
    this.fit();
    return this.tell();
  }

  endTraining() { // the clock of the first image that counts waits for its reader
    this.phase = this.root.dataset.phase = "rating";
    this.show(this.firstOpen());
    this.pause(true, "The training is over. From here on, answers count.");
  }

  finish() {
    this.turnTo("done", donePage);
    this.tellSaved();
    this.find("h1").focus();
  }

  // Every pixel is shown as a square of whole screen dots, the same in every browser: smoothing differs between
  // browsers, and it would hide the fine grain by which a synthetic image may be told.
  fit() {
    const image = this.find("img"), wide = this.root.clientWidth >= 720, dots = window.devicePixelRatio || 1;
    this.root.classList.toggle("lsn-wide", wide);
    if (!image) return;
    const room = Math.min(this.root.clientWidth - (wide ? 380 : 24), innerHeight * (wide ? 0.92 : 0.5));
    const times = Math.max(1, Math.floor(room * dots / this.set.size));
    image.style.width = image.style.height = `${times * this.set.size / dots}px`;
  }

  tell() { // let the page say what is so
    const { mark, paused, training, at, images, root } = this, all = images.length;
    this.find(".lsn-count").textContent = `${training ? "Training example, not counted: " : ""}${at + 1} of ${all}`;
    Object.assign(this.find("progress"), { max: all, value: training ? at : this.rows.length });
    root.classList.toggle("lsn-is-paused", paused);
    for (const one of root.querySelectorAll("[data-answer], input")) {
      if (one.dataset.answer) one.setAttribute("aria-pressed", one.dataset.answer === mark.answer);
      Object.assign(one, { checked: Number(one.value) === mark.confidence, disabled: paused });
    }
    this.find("[data-do=next]").disabled = paused || !complete(mark);
    this.find("[data-do=back]").disabled = paused || at === 0;
    this.find("[data-do=pause]").textContent = paused ? "Continue" : "Pause";
    Object.assign(this.find("[data-do=download]") ?? {}, { disabled: training || !this.rows.length });
    this.find(".lsn-truth").textContent = training && complete(mark) ? `This one is ${images[at].answer}.` : "";
    this.tellSaved();
  }

  tick() { // add the time on the screen since the image appeared, or since it was last added
    if (this.since === null) return;
    const now = performance.now();
    this.mark.seconds += (now - this.since) / 1000;
    this.since = now;
  }

  keep() {
    if (this.training) return;
    merge(this.marks, this.store.load(this.reader));
    this.kept = this.store.save(this.reader, this.marks, this.rows);
    if (this.kept) this.fresh = false;
  }

  give(change) { // an answer or a confidence
    if (!this.shown || this.paused) return;
    this.tick();
    Object.assign(this.mark, change);
    if (complete(this.mark)) this.mark.when = `${new Date().toISOString().slice(0, 19)}Z`;
    this.fresh = !this.training;
    this.keep();
    this.tell();
  }

  go(step) {
    if (this.phase === "done" && step < 0) {
      this.turnTo("rating", ratePage);
      return this.show(this.images.length - 1);
    }
    if (!this.shown || this.paused || (step > 0 ? !complete(this.mark) : this.at === 0)) return undefined;
    this.tick();
    this.keep();
    return this.show(this.at + step);
  }

  pause(stop = !this.paused, why = "Paused") { // or go on
    if (!this.shown || stop === this.paused) return;
    this.tick();
    this.since = stop ? null : performance.now();
    this.keep();
    this.find(".lsn-paused").textContent = why;
    this.tell();
    this.find(stop ? "[data-do=pause]" : ".lsn-view").focus({ preventScroll: true });
  }

  download() {
    if (this.shown) this.tick();
    const file = new Blob([toCsv(this.rows)], { type: "text/csv" }), link = document.createElement("a");
    link.download = `${this.reader.replace(/[^\p{L}\p{N}._-]+/gu, "-")}_${this.set.key.slice(0, 8)}.csv`;
    link.href = URL.createObjectURL(file);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // some browsers begin to read it later
    this.fresh = false;
  }

  // ---- what the reader does

  act(action) {
    ({ begin: () => this.begin(), next: () => this.go(1), back: () => this.go(-1), pause: () => this.pause(),
      download: () => this.download() })[action]();
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !this.shown) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, { target } = event;
    const answer = { r: "real", ArrowLeft: "real", s: "synthetic", ArrowRight: "synthetic" }[key];
    const own = target.matches("button, input") && !target.matches("[aria-pressed=true], :checked"); // it acts itself
    if (answer) this.give({ answer });
    else if (LEVELS.includes(Number(key))) this.give({ confidence: Number(key) });
    else if (key === "b" || key === "Backspace") this.go(-1);
    else if (key === "p") this.pause();
    else if ((key === "Enter" || key === " ") && !own) this.paused ? this.pause(false) : this.go(1);
    else return;
    event.preventDefault();
  }

  listen() {
    const { root, keys } = this, hidden = () => document.hidden && this.pause(true);
    root.addEventListener("click", ({ target }) => {
      const { answer, do: action } = target.closest("button")?.dataset ?? {};
      if (answer) this.give({ answer });
      if (action) this.act(action);
    });
    root.addEventListener("input", ({ target }) => target.type === "text" && this.name(target.value));
    root.addEventListener("change", async ({ target }) => {
      if (target.type === "radio") this.give({ confidence: Number(target.value) });
      if (target.type !== "file" || !target.files.length) return;
      this.load(await target.files[0].text());
      target.value = ""; // so that the same file can be chosen again
    });
    root.addEventListener("keydown", ({ key, target }) => key === "Enter" && target.type === "text" && this.begin());
    keys.addEventListener("keydown", (event) => this.press(event));
    document.addEventListener("visibilitychange", hidden);
    return () => { this.watch.disconnect(); document.removeEventListener("visibilitychange", hidden); };
  }
}

// The rater of a page of its own, which has all keys for itself.
export function mount(root, set) {
  const rater = root.rater = new Rater(root, set, { reader: "", store: browserStore(set), keys: document });
  rater.listen();
  addEventListener("beforeunload", (event) => rater.fresh && event.preventDefault()); // nothing kept the answers
}

// The rater of a notebook, which has the keys while it has the focus.
function render({ model, el }) {
  const root = Object.assign(document.createElement("div"), { className: "lsn-rater" });
  root.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the keys for itself
  el.append(root);
  const ours = { reader: model.get("reader"), store: modelStore(model), keys: root };
  const rater = new Rater(root, model.get("content"), ours);
  const stop = rater.listen(), told = () => rater.tellSaved(), events = ["change:written", "change:trouble"];
  events.forEach((event) => model.on(event, told));
  root.rater = rater; // for tests
  return () => { stop(); events.forEach((event) => model.off(event, told)); };
}

export default { render };
