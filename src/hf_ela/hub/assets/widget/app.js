/** The page: takes pictures in, asks the worker, shows what it says. */

import { clearAnswer, showOpened, showScored } from "./answer.js";
import { listenToSliders, showLevelling, showLevels } from "./figures.js";

const element = (id) => document.getElementById(id);
const NEEDED = ["Worker", "OffscreenCanvas", "WebAssembly", "createImageBitmap"];

class Page {
  /**
   * @typedef {{file: string, title: string, label: string}} Sample
   * @param {{endpoint: string, repo: string, revision: string, samples: Sample[],
   *   synthetic_notice: string}} place
   */
  constructor(place) {
    this.place = place;
    this.number = 0; // of the newest picture
    this.picture = null; // its file, name, size and, of a sample, the sample
    this.limits = null; // the model's threshold, its uncertain scores, and how often scores were right
    this.asked = false; // whether the model was asked for
    this.worker = startWorker();
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => {
      element("loading").hidden = true;
      this.fail("The worker of this page has stopped. Reload the page.");
    };
  }

  /** Load the model, once. */
  load() {
    if (this.asked) return;
    this.asked = true;
    element("loading").hidden = false;
    this.worker.postMessage({ place: this.place });
  }

  /** @param {Blob} file @param {string} name @param {Sample} [sample] */
  take(file, name, sample) {
    this.load();
    this.number += 1;
    this.picture = { file, name, sample };
    element("problem").hidden = true;
    clearAnswer();
    this.say(`Looking at ${name} …`, true);
    this.worker.postMessage({ file, number: this.number });
  }

  /** Ask for the error levels of the picture at another quality. */
  level(quality) {
    this.worker.postMessage({ file: this.picture.file, number: this.number, quality });
  }

  /** One of the messages of worker.js. */
  hear(message) {
    if (message.number && message.number !== this.number) return;
    switch (message.kind) {
      case "loading":
        return showLoading(message.loaded, message.total);
      case "ready":
        return this.ready(message);
      case "unavailable":
        this.asked = false;
        element("loading").hidden = true;
        clearAnswer();
        return this.fail(message.message, true);
      case "opened":
        Object.assign(this.picture, { width: message.width, height: message.height });
        showOpened({ name: this.picture.name, ...message });
        return reveal(element("answer"));
      case "scored": {
        const { width, height, name, sample } = this.picture;
        return this.say(`${name}: ${showScored({ ...message, ...this.limits, width, height, sample })}`);
      }
      case "levelling":
        return showLevelling(message.share);
      case "levels":
        return showLevels(message);
      case "refused":
        clearAnswer();
        return this.fail(`${this.picture.name} cannot be read: ${message.message}.`);
    }
  }

  ready({ threshold, uncertain, frequencies, synthetic, exact }) {
    this.limits = { threshold, uncertain, frequencies };
    element("synthetic").textContent = this.place.synthetic_notice;
    element("synthetic").hidden = !synthetic;
    element("loading").hidden = true;
    if (this.picture === null) this.say("The model is ready.");
    if (exact) return;
    this.fail(
      "This browser alters the pixels that pages read, to prevent tracking. " +
        "The answers will be wrong: allow this page to read pixels, or use another browser.",
    );
  }

  /** @param {string} text @param {boolean} seen whether it is visible nowhere else on the page */
  say(text, seen = false) {
    element("status").textContent = text;
    element("status").classList.toggle("said", !seen);
  }

  /** @param {string} text @param {boolean} again whether trying again may help */
  fail(text, again = false) {
    this.say("");
    element("problem-text").textContent = text;
    element("again").hidden = !again;
    element("problem").hidden = false;
    reveal(element("problem"), "nearest");
  }

  tryAgain() {
    element("problem").hidden = true;
    if (this.picture) this.take(this.picture.file, this.picture.name, this.picture.sample);
    else this.load();
  }
}

/**
 * Start worker.js through a blob: only then does the security policy of the page apply to it too.
 */
function startWorker() {
  const address = JSON.stringify(new URL("worker.js", import.meta.url).href);
  const start = new Blob([`import ${address};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(start), { type: "module" });
}

function showLoading(loaded, total) {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  element("loading-text").textContent =
    loaded < total
      ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`
      : "Starting the model …";
  const progress = element("progress");
  if (loaded < total) {
    progress.max = total;
    progress.value = loaded;
  } else {
    progress.removeAttribute("value");
  }
}

function reveal(section, block = "start") {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  section.scrollIntoView({ behavior: calm ? "auto" : "smooth", block });
}

/** @param {Page} page */
function listenForPictures(page) {
  const [file, drop] = [element("file"), element("drop")];
  const takeFirst = (files) => {
    if (files?.length) page.take(files[0], files[0].name || "the pasted picture");
  };
  for (const id of ["choose", "another"]) element(id).addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    takeFirst(file.files);
    file.value = ""; // or the same file could not be chosen again
  });
  // On the whole page: a browser would leave it for a file that is dropped beside the field.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    takeFirst(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => takeFirst(event.clipboardData.files));
  element("again").addEventListener("click", () => page.tryAgain());
}

/** @param {Page} page */
function offerSamples(page) {
  for (const sample of page.place.samples) {
    const { file, title } = sample;
    const picture = Object.assign(new Image(), { src: `samples/${file}`, alt: "" });
    const button = document.createElement("button");
    button.type = "button";
    button.append(picture, title);
    button.addEventListener("click", async () => {
      try {
        const response = await fetch(`samples/${file}`);
        if (!response.ok) throw new Error(response.statusText);
        page.take(await response.blob(), title, sample);
      } catch {
        page.fail(`${file} could not be downloaded. Check the connection and try again.`);
      }
    });
    const item = document.createElement("li");
    item.append(button);
    element("samples").append(item);
  }
}

/** Link to the model: its card, its files, and where its owner reads what is wrong. */
function linkTo({ endpoint, repo, revision }) {
  const model = `${endpoint}/${repo}`;
  const files = `${model}/tree/${revision}`;
  const pages = { model: files, card: model, code: files, report: `${model}/discussions` };
  for (const [id, address] of Object.entries(pages)) element(id).href = address;
  element("model").textContent = `${repo} at ${revision.slice(0, 7)}`;
}

async function start() {
  if (!NEEDED.every((name) => name in globalThis) || !globalThis.crypto?.subtle) return;
  const place = await (await fetch("widget.json")).json();
  linkTo(place);
  const page = new Page(place);
  listenForPictures(page);
  listenToSliders((quality) => page.level(quality));
  offerSamples(page);
  element("unsupported").hidden = true;
  // With data saving on, the model is loaded with the first picture only.
  if (!navigator.connection?.saveData) page.load();
}

await start();
