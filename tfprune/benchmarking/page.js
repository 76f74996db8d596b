// Holds one file in LiteRT.js: asks tfprune what to do, does it, tells how long it took.
import {begin, load, reasonOf, run, runFirst, said} from './litert.js';

let wasm, before, file;

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

const DO = {
  async start({threads}) {
    wasm = (await begin(threads)).liteRtWasm;
    before = memory();
    return {agent: navigator.userAgent, isolated: self.crossOriginIsolated};
  },
  async load(ask) {
    file = await load('', ask);
    return {load_ms: file.load_ms, ...await runFirst(file)};
  },
  run: async ({count}) => ({ms: await run(file, count)}),
  memory: () => ({bytes: memory() - before}),
};

new EventSource('alive');  // closes when this page dies, however busy it is
for (;;) {
  const ask = await (await fetch('next')).json();
  if (ask.do === 'wait') continue;
  let reply;
  said.length = 0;
  try {
    reply = await DO[ask.do](ask);
  } catch (error) {
    reply = {error: reasonOf(error)};
  }
  await fetch('answer', {method: 'POST', body: JSON.stringify(reply)});
}
