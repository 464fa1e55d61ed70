/** What a file says of how it was made: `hf_ela/images/claims.py` for the browser. */

const SAYS_WORDS = { ai: "AI-generated", human: "human-made", edited: "edited" };

/** Codes of https://cv.iptc.org/newscodes/digitalsourcetype/ */
const SOURCE_TYPES = {
  trainedAlgorithmicMedia: "ai",
  compositeWithTrainedAlgorithmicMedia: "ai",
  algorithmicMedia: "ai",
  compositeSynthetic: "ai",
  digitalCapture: "human",
  computationalCapture: "human",
  negativeFilm: "human",
  positiveFilm: "human",
  print: "human",
  digitalArt: "human",
  digitalCreation: "human",
  humanEdits: "edited",
  minorHumanEdits: "edited",
  algorithmicallyEnhanced: "edited",
  compositeCapture: "edited",
  composite: "edited",
};

/** Names that generators write where the program is named. A word has Python's letters, not ASCII's. */
const NAMES =
  "Stable[ -]?Diffusion|NovelAI|Midjourney|DALL[\\-·. ]?E|ComfyUI|InvokeAI|Fooocus|Adobe Firefly|" +
  "Imagen|Draw Things|Leonardo\\.?AI";
const GENERATOR = new RegExp(`(?<![\\p{L}\\p{N}_])(${NAMES})(?![\\p{L}\\p{N}_])`, "iu");
const PARAMETERS =
  /(?<![\p{L}\p{N}_])Steps: \d{1,6}, [^\n]{0,300}?(?<![\p{L}\p{N}_])(Sampler|CFG scale|Seed): /u;
const JOB = /(?<![\p{L}\p{N}_])Job ID: [0-9a-f]{8}-[0-9a-f-]{27}/u;
const WEB_UI = "Stable Diffusion web UI, or a program like it";

/** Keys of PNG texts: who writes them, and how their values are known. */
const TEXTS = {
  parameters: [WEB_UI, (text) => PARAMETERS.test(text) || text.startsWith("{")],
  prompt: ["ComfyUI", (text) => text.startsWith("{") && text.includes('"class_type"')],
  workflow: ["ComfyUI", (text) => text.startsWith("{") && text.includes('"nodes"')],
  Dream: ["InvokeAI", (text) => text !== ""],
  "sd-metadata": ["InvokeAI", (text) => text !== ""],
  invokeai_metadata: ["InvokeAI", (text) => text !== ""],
  Description: ["Midjourney", (text) => JOB.test(text)],
};

const RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType";
const AIGC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC";
const CREDIT = "{http://ns.adobe.com/photoshop/1.0/}Credit";
const TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool";

/**
 * @typedef {object} Claim
 * @property {string} what the kind of mark
 * @property {string} where its place in the file
 * @property {"ai" | "human" | "edited" | null} says
 * @property {null} verified no signature is verified here
 * @property {string} tool the program that it names, or an empty text
 */

/**
 * @param {import("./marks.js").Marks} marks
 * @returns {Claim[]} each once, C2PA first
 */
export function readClaims(marks) {
  const found = new Map();
  for (const read of [fromManifest, fromTexts, fromExif, fromXmp]) {
    try {
      for (const claim of [...read(marks)]) found.set(JSON.stringify(claim), claim);
    } catch {
      continue; // corrupt metadata makes no claim
    }
  }
  return [...found.values()];
}

/** What the file says, such as "AI-generated, by ComfyUI". */
export function wordsOf({ says, tool }) {
  const said = SAYS_WORDS[says] ?? "nothing of who made it";
  return tool ? `${said}, by ${tool}` : said;
}

const claimed = (what, where, says, tool = "") => ({ what, where, says, verified: null, tool });

const settings = (where, tool) => claimed("settings of a generator", where, "ai", tool);

function* fromManifest({ manifest }) {
  if (!manifest) return;
  const said = manifest.sources.map(sourceType);
  const says = ["ai", "edited", "human"].find((one) => said.includes(one)) ?? null;
  yield claimed("C2PA manifest, not verified", manifest.where, says);
}

function sourceType(address) {
  const code = address.match(/(?:^|\/)([\p{L}\p{N}_]+)$/u);
  return code && Object.hasOwn(SOURCE_TYPES, code[1]) ? SOURCE_TYPES[code[1]] : null;
}

function* fromTexts({ texts }) {
  for (const [key, [tool, isMark]] of Object.entries(TEXTS)) {
    if (key in texts && isMark(texts[key])) yield settings(`PNG text ${key}`, tool);
  }
  yield* named(texts.Software, "PNG text Software");
  yield* label(texts.AIGC, "PNG text AIGC");
}

function* named(text = "", where) {
  const generator = text.match(GENERATOR);
  if (generator) yield claimed("name of a generator", where, "ai", generator[1]);
}

function* fromExif({ exif }) {
  const { Software, ImageDescription = "", Make = "", Model = "", UserComment = "" } = exif;
  yield* named(Software, "EXIF Software");
  if (JOB.test(ImageDescription)) yield settings("EXIF ImageDescription", "Midjourney");
  if (Make.startsWith("workflow:{")) yield settings("EXIF Make", "ComfyUI");
  if (Model.startsWith("prompt:{")) yield settings("EXIF Model", "ComfyUI");
  if (PARAMETERS.test(UserComment)) yield settings("EXIF UserComment", WEB_UI);
  yield* label(UserComment, "EXIF UserComment");
}

/** The claim of a label of GB 45438-2025, a JSON object. */
function* label(text = "", where) {
  if (!text.startsWith("{")) return;
  let found = JSON.parse(text);
  found = found.AIGC ?? found;
  if (!["1", "2", "3"].includes(String(found.Label))) return;
  const producer = [...String(found.ContentProducer ?? "")].slice(0, 100).join("");
  yield claimed("AIGC label", where, "ai", producer);
}

function* fromXmp({ xmp }) {
  if (!xmp) return;
  const properties = propertiesOf(xmp);
  const of = (name) => properties.get(name) ?? "";
  const says = sourceType(of(IPTC));
  if (says) yield claimed(`IPTC digital source type ${of(IPTC).split("/").pop()}`, "XMP", says);
  if (of(CREDIT) === "Made with Google AI") {
    yield claimed("credit", "XMP photoshop:Credit", "ai", "Google AI");
  }
  yield* named(of(TOOL), "XMP xmp:CreatorTool");
  yield* label(of(AIGC), "XMP TC260:AIGC");
}

/** The properties of the picture itself, not those of what it was made from. */
function propertiesOf(xmp) {
  if (xmp.includes("<!ENTITY")) throw new Error("entities are not read");
  const parsed = new DOMParser().parseFromString(xmp, "application/xml");
  if (parsed.querySelector("parsererror")) throw new Error("not XML");
  const properties = new Map();
  const name = ({ namespaceURI, localName }) => `{${namespaceURI ?? ""}}${localName}`;
  const inside = (parent, tag) => [...parent.children].filter((one) => name(one) === `{${RDF}}${tag}`);
  for (const rdf of inside(parsed.documentElement, "RDF")) {
    for (const described of inside(rdf, "Description")) {
      for (const one of described.attributes) properties.set(name(one), one.value);
      for (const one of described.children) properties.set(name(one), firstText(one));
    }
  }
  return properties;
}

/** The text before the first element inside. */
function firstText(parent) {
  let text = "";
  for (const node of parent.childNodes) {
    if (node.nodeType === Node.ELEMENT_NODE) break;
    if (node instanceof Text) text += node.data;
  }
  return text.trim();
}
