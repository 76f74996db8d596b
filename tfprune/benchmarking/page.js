// Holds one file in LiteRT.js: asks tfprune what to do, does it, tells how long it took.
import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

const ARRAYS = {float32: Float32Array, int32: Int32Array, uint8: Uint8Array};
let wasm, before, model, runner, inputs;

// Bytes of linear memory that were ever written to, in pages of 4 KiB: it starts large, so that its
// length says nothing. Pages that were never used hold zeros.
function memory() {
  const words = new Uint32Array(wasm.HEAPU8.buffer);
  let pages = 0;
  for (let start = 0; start < words.length; start += 1024) {
    let i = start;
    while (i < start + 1024 && words[i] === 0) i++;
    pages += i < start + 1024;
  }
  return pages * 4096;
}

// What LiteRT.js prints says more than what it throws.
const said = [];
for (const kind of ['error', 'warn']) {
  console[kind] = (...words) => {
    const line = words.map(String).join(' ');
    if (!line.startsWith('INFO')) said.push(line);
  };
}

const bytesOf = async (path) => (await fetch(path)).arrayBuffer();

async function start({threads}) {
  const runtime = await loadLiteRt('./node_modules/@litertjs/core/wasm/', {threads: threads > 1});
  wasm = runtime.liteRtWasm;
  before = memory();
  return {agent: navigator.userAgent, isolated: self.crossOriginIsolated};
}

async function load({threads, signature, inputs: wanted}) {
  const bytes = new Uint8Array(await bytesOf('model'));
  const begin = performance.now();
  model = await loadAndCompile(bytes, {accelerator: 'wasm', cpuOptions: {numThreads: threads}});
  const loaded = performance.now();
  runner = signature === null ? model : model.signatures[signature] ?? model;
  const details = runner.getInputDetails();
  const order = wanted.map((one, i) => {
    const named = details.findIndex((d) => d.name === one.name);
    return named < 0 ? i : named;
  });
  inputs = new Array(details.length);
  for (const [i, one] of wanted.entries()) {
    const detail = details[order[i]];
    const kind = ARRAYS[detail.dtype];
    const shape = Array.from(detail.shape);
    if (shape.length !== one.shape.length || shape.some((n, d) => n >= 0 && n !== one.shape[d])) {
      throw new Error(`LiteRT.js cannot resize inputs: '${one.name}' has the shape ` +
                      `${shape.join('x')} there, not ${one.shape.join('x')}`);
    }
    inputs[order[i]] = new Tensor(new kind(await bytesOf(`input/${i}`)), one.shape);
  }
  const first = performance.now();
  const results = await runner.run(inputs);
  const end = performance.now();
  const names = runner.getOutputDetails().map((d) => d.name);
  const outputs = [];
  for (const [i, result] of results.entries()) {
    const values = await result.data();
    await fetch(`output/${i}`, {method: 'POST', body: values.slice()});
    outputs.push({name: names[i], dtype: result.type.dtype});
    result.delete();
  }
  return {load_ms: loaded - begin, first_ms: end - first, outputs};
}

async function run({count}) {
  const ms = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    const results = await runner.run(inputs);
    ms.push(performance.now() - begin);
    for (const result of results) result.delete();
  }
  return {ms};
}

const DO = {start, load, run, memory: () => ({bytes: memory() - before})};

new EventSource('alive');  // closes when this page dies, however busy it is
for (;;) {
  const ask = await (await fetch('next')).json();
  if (ask.do === 'wait') continue;
  let reply;
  said.length = 0;
  try {
    reply = await DO[ask.do](ask);
  } catch (error) {
    reply = {error: [String(error?.message ?? error), ...said.slice(-3)].join('; ')};
  }
  await fetch('answer', {method: 'POST', body: JSON.stringify(reply)});
}
