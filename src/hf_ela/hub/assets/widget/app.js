/** The page: takes pictures in, asks the worker, shows what it says. */

import {
  clearAnswer,
  listenToControls,
  showJudged,
  showLevelling,
  showLevels,
  showOpened,
} from "./answer.js";

const element = (id) => document.getElementById(id);
const NEEDED = ["Worker", "OffscreenCanvas", "WebAssembly", "createImageBitmap"];

class Page {
  /** @param {{endpoint: string, repo: string, revision: string, samples: string[]}} place */
  constructor(place) {
    this.place = place;
    this.number = 0; // of the newest picture
    this.picture = null; // its file, name and size
    this.limits = null; // of the model: its threshold, and the scores that are uncertain
    this.asked = false; // for the model
    this.worker = startWorker();
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => {
      element("loading").hidden = true;
      this.fail("The part of this page that does the work has stopped. Load the page again.");
    };
  }

  /** Have the model loaded, unless it is already. */
  load() {
    if (this.asked) return;
    this.asked = true;
    element("loading").hidden = false;
    this.worker.postMessage({ place: this.place });
  }

  /** @param {Blob} file @param {string} name */
  take(file, name) {
    this.load();
    this.number += 1;
    this.picture = { file, name };
    element("problem").hidden = true;
    clearAnswer();
    this.say(`Looking at ${name} …`, true);
    this.worker.postMessage({ file, number: this.number });
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
        return showOpened({ name: this.picture.name, ...message });
      case "judged": {
        const { width, height, name } = this.picture;
        this.say(`${name}: ${showJudged({ ...message, ...this.limits, width, height })}`);
        return reveal(element("answer"));
      }
      case "levelling":
        return showLevelling(message.share);
      case "levels":
        return showLevels(message);
      case "refused":
        clearAnswer();
        return this.fail(`${this.picture.name} cannot be judged: ${message.message}.`);
    }
  }

  ready({ threshold, uncertain, exact }) {
    this.limits = { threshold, uncertain };
    element("loading").hidden = true;
    if (this.picture === null) this.say("The model is ready.");
    if (exact) return;
    this.fail(
      "This browser alters the pixels that pages read, so that nobody is known again by them. " +
        "The answers will be wrong: allow this page to read them, or take another browser.",
    );
  }

  /** @param {string} text @param {boolean} seen whether it stands nowhere else on the page */
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
    if (this.picture) this.take(this.picture.file, this.picture.name);
    else this.load();
  }
}

/**
 * Start worker.js. It comes by way of a blob, because only then the page's security policy holds
 * for it too.
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
      ? `Getting the model ready: ${megabytes(loaded)} of ${megabytes(total)} MB`
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
  element("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    takeFirst(file.files);
    file.value = ""; // or the same file could not be chosen again
  });
  // Everywhere on the page: a browser leaves it for a file that is dropped beside the field.
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
  for (const name of page.place.samples) {
    const picture = Object.assign(new Image(), { src: `samples/${name}`, alt: "" });
    const button = document.createElement("button");
    button.type = "button";
    button.append(picture, name.replace(/\.\w+$/, "").replace("-", ", "));
    button.addEventListener("click", async () => {
      try {
        const response = await fetch(`samples/${name}`);
        if (!response.ok) throw new Error(response.statusText);
        page.take(await response.blob(), name);
      } catch {
        page.fail(`${name} could not be fetched. Check the connection and try again.`);
      }
    });
    const item = document.createElement("li");
    item.append(button);
    element("samples").append(item);
  }
}

async function start() {
  if (!NEEDED.every((name) => name in globalThis) || !globalThis.crypto?.subtle) return;
  const place = await (await fetch("widget.json")).json();
  const link = element("model");
  link.href = `${place.endpoint}/${place.repo}/tree/${place.revision}`;
  link.textContent = `${place.repo} at ${place.revision.slice(0, 7)}`;
  const page = new Page(place);
  listenForPictures(page);
  listenToControls();
  offerSamples(page);
  element("unsupported").hidden = true;
  // Whoever saves data has the model loaded with the first picture only.
  if (!navigator.connection?.saveData) page.load();
}

await start();
