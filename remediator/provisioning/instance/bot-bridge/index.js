// GET /mesh: what OpenClaw knows of itself and does not say on /health. It reads, and changes nothing.
import { readFileSync } from "node:fs";

const FRESH_MS = 5000; // an answer is used again for so long
const TIMEOUT_MS = 2000; // of a request to a peer
const MOST_RUNS = 1000; // that are remembered
const REASON_MS = 300_000; // a call waits so long for the end of its turn
const NO_CHANNELS = new Set(["defaults", "a2a"]); // keys of `channels` that name none
const NONE = { requests: 0, failed: 0, input_tokens: 0, output_tokens: 0 };
const FAILURES = Object.entries({ // by what the provider said; the first that fits
  billing: /\b402\b|billing|credit|quota/i,
  rate_limit: /\b429\b|rate.?limit/i,
  overloaded: /\b(529|503)\b|overload/i,
  auth: /\b40[13]\b|auth|api.?key|permission/i,
  model_not_found: /\b404\b|(?<![a-z])not.?found|unknown model/i, // not ENOTFOUND: that is a name server's
  timeout: /\b(408|504)\b|time.?d? ?out/i,
});

// Of the process, not of the plugin: OpenClaw may load a plugin anew without a restart.
const state = (globalThis[Symbol.for("bot-bridge")] ??= {
  calls: new Map(), // of the model, that run: since when, by id
  turns: new Map(), // that run: since when, by id
  runs: new Set(), // turns that called it, or whose failure is counted, by id
  ended: [], // calls whose turn has not
  ready: {}, // the last answer of /ready
  facts: {
    boot_id: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    started_at: new Date(Date.now() - process.uptime() * 1000).toISOString(),
    context_usage: undefined, // JSON leaves out what is undefined
    usage: { ...NONE, failed_by: {}, models: {} },
  },
});
const { calls, facts, runs, turns } = state;

const count = (value) => (Number.isFinite(value) && value > 0 ? value : 0);
const input = (usage) => count(usage?.input) + count(usage?.cacheRead) + count(usage?.cacheWrite);

function add({ provider, model }, field, number) {
  const { usage } = facts;
  usage[field] += number;
  (usage.models[`${provider}/${model}`] ??= { ...NONE })[field] += number;
}

// Count calls that ended, given the last message of their turn: it says why they failed.
function settle(fits, message) {
  const said = `${message?.errorCode} ${message?.errorMessage}`;
  const ended = state.ended.filter(fits);
  state.ended = state.ended.filter((call) => !fits(call));
  // OpenClaw 2026.5 calls those completed whose answer is an error.
  const last = ended.at(-1);
  if (last && message?.stopReason === "error" && !ended.some(({ outcome }) => outcome === "error")) {
    last.outcome = "error";
  }
  for (const call of ended) {
    add(call, call.outcome === "error" ? "failed" : "requests", 1);
    if (call.outcome !== "error") continue;
    const kind = FAILURES.find(([, words]) => words.test(`${said} ${call.failureKind}`))?.[0] ?? "other";
    facts.usage.failed_by[kind] = (facts.usage.failed_by[kind] ?? 0) + 1;
  }
}

function remember(runId) {
  if (runs.size >= MOST_RUNS) runs.delete(runs.values().next().value); // the oldest
  runs.add(runId);
}

// Count a turn that failed before it called a model, as for want of a key.
function fail(runId, error, name) {
  if (runs.has(runId)) return; // every loading of the plugin listens
  remember(runId);
  const [provider, ...model] = name.split("/");
  state.ended.push({ runId, provider, model: model.join("/"), outcome: "error" });
  settle((call) => call.runId === runId, { errorMessage: error });
}

async function get(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: "error" });
    return { status: response.status, body: await response.json().catch(() => ({})) };
  } catch {
    return { status: 0, body: {} };
  }
}

function channelsOf(config) {
  if (process.env.OPENCLAW_SKIP_CHANNELS === "1") return []; // it stands by
  return Object.entries(config.channels ?? {})
    .filter(([name, channel]) => channel?.enabled !== false && !NO_CHANNELS.has(name))
    .map(([name]) => name);
}

async function agent([name, { url }]) {
  const { status } = await get(new URL("/.well-known/agent-card.json", url)); // open to all in A2A
  return { name, up: status === 200 };
}

function configOf(api) {
  return api.runtime.config?.current?.() ?? api.config;
}

function modelOf(config) {
  const model = config.agents?.defaults?.model;
  return model?.primary ?? model;
}

async function look(api) {
  const config = configOf(api);
  const port = process.env.OPENCLAW_GATEWAY_PORT || config.gateway?.port || 18789;
  const agents = Object.entries(config.channels?.a2a?.peers ?? {}).filter(([, peer]) => URL.canParse(peer?.url));
  const [ready, ...others] = await Promise.all([
    get(`http://127.0.0.1:${port}/ready`), // says what fails to loopback alone
    ...agents.map(agent),
  ]);
  if (ready.status) state.ready = ready.body; // no answer in time says that it is busy, and nothing of channels
  const { failing = ["gateway"], eventLoop } = state.ready; // channels, or what keeps all of them from working
  const names = channelsOf(config);
  // Not while it starts (it is /health that says 200 long before), nor when more than a channel fails.
  const ok = failing.every((name) => names.includes(name));
  const channels = names.map((name) => ({ name, up: ok && !failing.includes(name) }));
  const now = performance.now();
  const [call = now] = calls.values(); // the oldest
  const [turn = now] = turns.values();
  settle(({ at }) => now - at > REASON_MS);
  return {
    ok,
    version: api.runtime.version,
    config_sha: api.pluginConfig?.config_sha, // of the configuration that this process loaded
    model: modelOf(config),
    ...facts,
    memory_bytes: process.memoryUsage.rss(),
    turn_age_seconds: (now - Math.min(call, turn)) / 1000,
    eventLoop,
    channels,
    peers: [...channels, ...others],
  };
}

export default {
  id: "bot-bridge",
  name: "Bot bridge",
  register(api) {
    api.on("model_call_started", ({ runId, callId }) => {
      remember(runId);
      calls.set(callId, performance.now());
    });
    api.runtime.events?.onAgentEvent?.(({ runId, stream, data }) => {
      if (stream !== "lifecycle") return;
      if (data.phase === "start" && !turns.has(runId)) turns.set(runId, performance.now());
      if (data.phase === "end" || data.phase === "error") turns.delete(runId);
      if (data.phase === "error") fail(runId, data.error, modelOf(configOf(api)) ?? "");
    });
    api.on("model_call_ended", (call) => {
      calls.delete(call.callId);
      state.ended.push({ ...call, at: performance.now() });
    });
    api.on("agent_end", ({ runId, messages }) => settle((call) => call.runId === runId, messages?.at(-1)));
    api.on("llm_output", (output) => {
      const { usage, lastAssistant, contextTokenBudget } = output;
      add(output, "input_tokens", input(usage));
      add(output, "output_tokens", count(usage?.output));
      const last = lastAssistant?.usage ?? usage; // `usage` may sum several calls; the last one fills the window
      const used = input(last) + count(last?.output);
      if (contextTokenBudget > 0 && used > 0) facts.context_usage = Math.min(1, used / contextTokenBudget);
    });

    let answer;
    let lookedAt = -Infinity;
    api.registerHttpRoute({
      path: "/mesh",
      match: "exact",
      auth: "plugin", // none: there is no secret in it, as in /health
      async handler(_request, response) {
        if (performance.now() - lookedAt > FRESH_MS) {
          lookedAt = performance.now();
          answer = look(api);
        }
        const body = JSON.stringify(await answer);
        response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-store" }).end(body);
        return true;
      },
    });
  },
};
