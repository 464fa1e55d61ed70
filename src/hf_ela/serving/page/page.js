/** Sends pictures to the server of this page, and shows what it answers. */

const element = (id) => document.getElementById(id);
const WORDS = { fake: "AI-generated", real: "human-made" };
const SAYS = { ai: "AI-generated", human: "human-made", edited: "edited" };

async function take(file) {
  const shown = element("answer").content.cloneNode(true).firstElementChild;
  const [title, list, picture] = ["h2", "ul", "img"].map((name) => shown.querySelector(name));
  shown.querySelector(".name").textContent = file.name || "the pasted picture";
  title.textContent = "Looking at it …";
  picture.src = URL.createObjectURL(file);
  element("answers").prepend(shown);
  const say = (text) => list.appendChild(document.createElement("li")).append(text);
  try {
    const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    const headers = { "Content-Type": type };
    const response = await fetch("/?abstain=true", { method: "POST", headers, body: file });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    show(answer, shown, title, say);
  } catch (error) {
    title.textContent = "No answer";
    shown.querySelector(".scale").remove();
    say(error.message);
  }
}

function show(answer, shown, title, say) {
  const [first] = answer;
  const decided = answer.find(({ label }) => label !== "uncertain");
  const fake = answer.find(({ label }) => label === "fake").score; // with the threshold in the middle
  title.textContent =
    first.label === "uncertain"
      ? `The model is uncertain; it leans towards ${WORDS[decided.label]}`
      : `The model says: ${WORDS[first.label]}`;
  const scale = shown.querySelector(".scale");
  scale.style.setProperty("--at", `${100 * fake}%`);
  scale.ariaLabel = `${fake.toFixed(3)} on a scale from human-made to AI-generated; the threshold is the middle`;
  say(`P(fake), its estimate that the picture is AI-generated, is ${first.probability.toFixed(3)}.`);
  for (const text of [first.reason, first.frequency, first.notice]) if (text) say(text);
  for (const { says, tool, what, where } of first.claims ?? []) {
    say(`The file says: ${SAYS[says] ?? "nothing of who made it"}${tool ? `, by ${tool}` : ""} (${what}; ${where}).`);
  }
}

const all = (files) => [...(files ?? [])].forEach(take);
element("file").addEventListener("change", ({ target }) => {
  all(target.files);
  target.value = "";
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  all(event.dataTransfer.files);
});
addEventListener("paste", ({ clipboardData }) => all(clipboardData.files));
