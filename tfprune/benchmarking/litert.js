// LiteRT.js as tfprune's pages use it: start it, load a file with its inputs, run it.
import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

const ARRAYS = {float32: Float32Array, int32: Int32Array, uint8: Uint8Array};

// LiteRT.js prints much that means nothing (no NPU, no GPU, INFO), all of it as errors. It is kept for
// when something fails: then it says more than what was thrown.
export const said = [];
for (const kind of ['error', 'warn']) {
  console[kind] = (...words) => {
    const line = words.map(String).join(' ');
    if (!line.startsWith('INFO')) said.push(line);
  };
}

export const reasonOf = (error) => [String(error?.message ?? error), ...said.slice(-3)].join('; ');

export async function request(path, options) {
  const reply = await fetch(path, options);
  if (!reply.ok) throw new Error(`${path}: tfprune answered with ${reply.status}`);
  return reply;
}

const bytesOf = async (path) => (await request(path)).arrayBuffer();

export const begin = (threads) =>
    loadLiteRt('./node_modules/@litertjs/core/wasm/', {threads: threads > 1});

// Loads the file at `${place}model` with the inputs at `${place}input/0` and so on.
export async function load(place, {threads, signature, inputs: wanted}) {
  const bytes = new Uint8Array(await bytesOf(`${place}model`));
  const begin = performance.now();
  const model = await loadAndCompile(bytes, {accelerator: 'wasm', cpuOptions: {numThreads: threads}});
  const load_ms = performance.now() - begin;
  const runner = signature === null ? model : model.signatures[signature] ?? model;
  const details = runner.getInputDetails();
  const order = wanted.map((one, i) => {
    const named = details.findIndex((d) => d.name === one.name);
    return named < 0 ? i : named;
  });
  const inputs = new Array(details.length);
  for (const [i, one] of wanted.entries()) {
    const detail = details[order[i]];
    const kind = ARRAYS[detail.dtype];
    const shape = Array.from(detail.shape);
    if (shape.length !== one.shape.length || shape.some((n, d) => n >= 0 && n !== one.shape[d])) {
      throw new Error(`LiteRT.js cannot resize inputs: '${one.name}' has the shape ` +
                      `${shape.join('x')} there, not ${one.shape.join('x')}`);
    }
    inputs[order[i]] = new Tensor(new kind(await bytesOf(`${place}input/${i}`)), one.shape);
  }
  return {place, model, runner, inputs, load_ms};
}

// Runs a file for the first time and sends its outputs to tfprune, which compares them.
export async function runFirst({place, runner, inputs}) {
  const first = performance.now();
  const results = await runner.run(inputs);
  const first_ms = performance.now() - first;
  const names = runner.getOutputDetails().map((d) => d.name);
  const outputs = [];
  for (const [i, result] of results.entries()) {
    const values = await result.data();
    await request(`${place}output/${i}`, {method: 'POST', body: values.slice()});
    outputs.push({name: names[i], dtype: result.type.dtype});
    result.delete();
  }
  return {first_ms, outputs};
}

// Returns the milliseconds of each of `count` runs.
export async function run({runner, inputs}, count) {
  const ms = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    const results = await runner.run(inputs);
    ms.push(performance.now() - begin);
    for (const result of results) result.delete();
  }
  return ms;
}
