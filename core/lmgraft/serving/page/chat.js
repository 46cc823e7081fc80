"use strict";
// All that is said is put in place as text (textContent), never as HTML.
const settings = "SETTINGS";
const at = (id) => document.getElementById(id);
const messages = [];
let underWay = null;
let talk = 0;
let leftOut = 0; // so many first messages no longer fit the model's context

at("model").textContent = settings.model;
document.title = settings.model + " - lmgraft";
at("key").value = sessionStorage.getItem("lmgraft.key") || "";
if (!settings.chats) say("This model has no chat template: it is started with --template, or asked at /v1/completions.");

function say(text) { at("note").textContent = text; }

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: "Bearer " + key } : {}) };
}

function turn(kind, text) {
  const place = document.createElement("div");
  place.className = "turn " + kind;
  place.textContent = text;
  at("log").append(place);
  scroll(true);
  return place;
}

function scroll(always) {
  const log = at("log");
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight;
}

function busy(is) {
  at("send").hidden = is;
  at("stop").hidden = !is;
}

function body() {
  const system = at("system").value.trim();
  const most = at("tokens").valueAsNumber;
  const heat = at("temperature").valueAsNumber;
  return {
    model: settings.model, stream: true,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...messages.slice(leftOut)],
    ...(Number.isFinite(heat) ? { temperature: heat } : {}),
    ...(Number.isFinite(most) ? { max_tokens: most } : {}),
  };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const event of whole) {
      const data = event.startsWith("data: ") ? event.slice(6) : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function refused(response) {
  const error = new Error(response.status + " " + response.statusText);
  try {
    const told = (await response.json()).error;
    error.message = told.message;
    error.code = told.code;
  } catch { /* not ours: the status says it */ }
  if (response.status === 401) {
    at("settings").open = true;
    at("key").focus();
  }
  return error;
}

async function post() {
  for (;;) {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), body: JSON.stringify(body()), signal: underWay.signal,
    });
    if (response.ok) return response;
    const error = await refused(response);
    if (error.code !== "context_length_exceeded" || messages.length - leftOut < 3) throw error;
    leftOut += 2;
    say("The context is full: the oldest turns are no longer read.");
  }
}

async function ask(text) {
  const mine = talk;
  say("");
  turn("user", text);
  messages.push({ role: "user", content: text });
  const place = turn("answer under-way", "");
  underWay = new AbortController();
  busy(true);
  let answer = "";
  try {
    const response = await post();
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      answer += event.choices[0]?.delta?.content || "";
      place.textContent = answer;
      scroll(false);
    }
  } catch (error) {
    if (mine === talk) say(error.name === "AbortError" ? "Stopped." : error.message);
  }
  place.classList.remove("under-way");
  underWay = null;
  busy(false);
  if (mine !== talk) return; // a new conversation has begun
  if (answer) messages.push({ role: "assistant", content: answer });
  else {
    // Nothing came: the message goes back to where it was typed.
    messages.pop();
    place.previousSibling.remove();
    place.remove();
    if (!at("text").value) at("text").value = text;
  }
}

function send() {
  const text = at("text").value.trim();
  if (!text || underWay) return;
  at("text").value = "";
  ask(text);
}

function stop() { if (underWay) underWay.abort(); }

at("form").addEventListener("submit", (event) => { event.preventDefault(); send(); at("text").focus(); });
at("choices").addEventListener("submit", (event) => event.preventDefault());
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
at("stop").addEventListener("click", () => { stop(); at("text").focus(); });
at("reset").addEventListener("click", () => {
  talk += 1;
  stop();
  messages.length = 0;
  leftOut = 0;
  at("log").replaceChildren();
  say("");
  at("text").focus();
});
at("key").addEventListener("change", () => sessionStorage.setItem("lmgraft.key", at("key").value.trim()));
