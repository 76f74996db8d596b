// Runs two files side by side for somebody to look at: how fast, and are the answers right.
import {begin, load, reasonOf, request, run, runFirst} from './litert.js';

const TURN = 5;  // timed runs in a row, as in tfprune benchmark
const WARMUP = 5;
const at = (id) => document.getElementById(id);
const pause = () => new Promise((done) => setTimeout(done));  // so that the page is drawn

let about, files;

function tell(text, share) {
  at('status').textContent = text;
  at('progress').hidden = share === undefined;
  at('progress').value = share ?? 0;
}

const three = (value) => value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
const megabytes = (bytes) => `${three(bytes / 1e6)} MB`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// As numpy.percentile, whose lines tfprune's tables are made with.
function percentile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place), high = Math.ceil(place);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

function card(file, role) {
  const piece = at('card').content.cloneNode(true);
  piece.querySelector('b').textContent = file.name;
  piece.querySelector('h2 span').textContent = role;
  const [speed, bar, list] = ['output', '.bar i', 'dl'].map((one) => piece.querySelector(one));
  const show = (term, text, bad = false) => {
    let dd = list.querySelector(`[data-term="${term}"]`);
    if (!dd) {
      list.append(Object.assign(document.createElement('dt'), {textContent: term}));
      dd = list.appendChild(document.createElement('dd'));
      dd.dataset.term = term;
    }
    dd.textContent = text;
    dd.classList.toggle('bad', bad);
  };
  at('files').append(piece);
  show('range', '–');
  show('loading', '–');
  show('answer', '–');
  show('file', `${megabytes(file.bytes)} (${megabytes(file.gzip_bytes)} in gzip)`);
  if (file.zeros !== null) {
    const stored = file.encoded ? 'stored sparse' : 'stored dense';
    show('zeros', `${percent(file.zeros)} of the 1x1 convolutions, ${stored}`);
  }
  const kernels = {fast: 'sparse: zeros are skipped', dense: 'dense: zeros are multiplied, too',
                   wrong: `sparse ones go wrong: ${file.reason}`};
  show('kernels', kernels[file.kind], file.kind === 'wrong');
  return {speed, bar, show};
}

function draw(times, done) {
  const sorted = times.map((ms) => [...ms].sort((a, b) => a - b));
  const medians = sorted.map((ms) => percentile(ms, 0.5));
  const [before, after] = medians;
  for (const [i, file] of files.entries()) {
    file.card.speed.textContent = three(medians[i]);
    file.card.bar.style.width = `${100 * medians[i] / Math.max(before, after)}%`;
    file.card.show('range', `${three(percentile(sorted[i], 0.05))} to ${three(percentile(sorted[i], 0.95))} ms`);
  }
  if (!done) return;
  const ratio = before / after;
  at('headline').textContent =
      ratio > 1.05 ? `${ratio.toFixed(1)} times as fast` :
      ratio < 0.95 ? `${(1 / ratio).toFixed(1)} times as slow` : 'As fast as before';
}

async function measure() {
  at('again').disabled = true;
  at('headline').textContent = 'Measuring';
  for (const file of files) await run(file, WARMUP);
  const times = files.map(() => []);
  for (let start = 0; start < about.runs; start += TURN) {
    const count = Math.min(TURN, about.runs - start);
    tell(`${start} of ${about.runs} runs of each file`, start / about.runs);
    await pause();
    const first = start / TURN % 2;
    for (const i of [first, 1 - first]) times[i].push(...(await run(files[i], count + 1)).slice(1));
    draw(times, false);
  }
  draw(times, true);
  tell(`${files[1].about.name} against ${files[0].about.name}: medians of ${about.runs} runs.`);
  at('again').disabled = false;
}

const SMALL = 0.001;  // per cent

function share(error) {
  const percent = Math.max(SMALL, 100 * error);
  return percent < 1000 ? `${Number(percent.toPrecision(1))} %` : 'more than 1000 %';
}

function difference({error}) {
  return error === null ? 'in numbers that are not finite' :
      `by ${100 * error < SMALL ? 'less than ' : ''}${share(error)} of the largest output`;
}

function judgement(one) {
  if (one === null) return 'not compared: plain kernels cannot run this file';
  if (one.error === 0) return 'right, to the last bit';
  if (one.agrees) return `right, within ${share(one.error)} of the largest output`;
  return `${one.agrees === false ? 'WRONG: differs' : 'differs'} from plain kernels ${difference(one)}`;
}

function showAgreement({between, files: judged}) {
  for (const [i, one] of judged.entries()) {
    files[i].card.show('answer', judgement(one), one !== null && one.agrees === false);
  }
  const [verdict, words] =
      between.error === 0 ? ['The same answers,', 'to the last bit.'] :
      between.agrees ? ['The same answers.', `The outputs differ ${difference(between)}, which is rounding.`] :
      ['Not the same answers.', `The outputs differ ${difference(between)}. That is as it should be if the ` +
       'files hold different weights, and a fault if they hold the same.'];
  at('agreement').children[0].textContent = verdict;
  at('agreement').children[1].textContent = words;
  at('agreement').className = `verdict ${between.agrees ? 'good' : 'bad'}`;
  at('agreement').hidden = false;
}

async function show() {
  about = await (await request('about')).json();
  const [before, after] = about.files;
  document.title = `${before.name} and ${after.name} - tfprune`;
  at('place').textContent = `LiteRT.js ${about.litertjs} in this browser, ` +
      (before.threads > 1 ? `${before.threads} threads` : 'one thread');
  files = about.files.map((file, i) => ({about: file, card: card(file, i ? 'after' : 'before')}));
  tell('Starting LiteRT.js: about 10 MB of WebAssembly', 0);
  await begin(before.threads);
  const found = [];
  for (const [i, file] of files.entries()) {
    tell(`Loading ${file.about.name}`, (1 + i) / 4);
    await pause();
    Object.assign(file, await load(`files/${i}/`, file.about));
    file.card.show('loading', `${three(file.load_ms)} ms`);
    found.push((await runFirst(file)).outputs);
  }
  tell('Comparing the answers', 0.9);
  showAgreement(await (await request('agreement', {method: 'POST', body: JSON.stringify(found)})).json());
  at('about').textContent = navigator.userAgent;
  await measure();
}

const safely = (what) => what().catch((error) => globalThis.giveUp(reasonOf(error)));
at('again').addEventListener('click', () => safely(measure));
safely(show);
