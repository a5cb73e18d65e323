/**
 * `isthmus bench NAME`: runs a comparison and gives it as JSON, or as a table and a page with plots.
 * It touches the processes that the benchmark starts, and files under the output folder.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../../apps/options.ts';
import type { BenchContext } from '../../bench/bench.ts';
import { benches } from '../../bench/registry.ts';
import { defineCommand } from '../command.ts';

const DATAPATHS = ['uring', 'kernel'];

export const bench = defineCommand({
  name: 'bench',
  summary: 'Compares Isthmus with its peers, measured on this machine.',
  description: [
    `Benchmarks: ${benches.map(({ name, summary }) => `${name} (${summary.replace(/\.$/, '')})`).join('; ')}.`,
    'Server and load are pinned to one CPU each; the sides take turns in rounds; a sample during which somebody else used the machine is repeated. ' +
      'Numbers are medians over the rounds, ratios medians of the ratios of each round; a ratio above 1 always means that the left side is better.',
  ].join('\n'),
  positionals: [{ name: 'NAME', help: benches.map(({ name }) => name).join(', ') }],
  options: {
    json: { type: 'boolean', help: 'One JSON object on standard output, instead of a table and a page with plots.' },
    quick: { type: 'boolean', help: 'Ends within 50 seconds: fewer and shorter samples.' },
    datapath: {
      type: 'string',
      value: 'NAMES',
      default: DATAPATHS.join(','),
      help: 'Datapaths of ours to measure, separated by commas. With xdp every side is measured over a veth pair of its own (root).',
    },
    rounds: {
      type: 'integer',
      value: 'N',
      min: 1,
      max: 1000,
      help: 'Samples of each case. Default 5; in a quick run at most 3.',
    },
    seconds: {
      type: 'seconds',
      value: 'TIME',
      min: 0.05,
      max: 600,
      help: 'Length of a sample. Default 3 s, shorter in a quick run.',
    },
    out: {
      type: 'string',
      value: 'DIR',
      default: 'bench-results',
      help: 'Where NAME.html and NAME.json are written; with --json only if given.',
    },
  },
  examples: [
    { line: 'bench tcp-echo', what: 'about five minutes; a table, and bench-results/tcp-echo.html' },
    { line: 'bench queue --quick --json', what: 'for a program to read' },
  ],
  async run({ values, given, positionals }, io) {
    const entry = benches.find(({ name }) => name === positionals[0]);
    if (entry === undefined) {
      throw new UsageError(
        `unknown benchmark '${positionals[0]}': ${benches.map(({ name }) => name).join(', ')} are known`,
      );
    }
    const { chooseCpus } = await import('../../bench/pinned.ts');
    const { describeMachine } = await import('../../bench/machine.ts');
    const { runBench } = await import('../../bench/runner.ts');
    const { datapaths, notes } = await usableDatapaths(values.datapath);
    const context: BenchContext = { quick: values.quick, datapaths, ...chooseCpus(), note: (text) => notes.push(text) };
    const definition = await entry.load(context);
    const result = await runBench(definition, context, describeMachine(context.serverCpu, context.loadCpu), notes, {
      quick: values.quick,
      rounds: values.rounds,
      seconds: values.seconds,
      signal: io.interrupted,
      quiet: true,
      progress: (line) => io.err(`${line}\n`),
    });
    if (!values.json || given.has('out')) {
      const { htmlPage } = await import('../../bench/report/html.ts');
      await mkdir(values.out, { recursive: true });
      await writeFile(join(values.out, `${entry.name}.json`), `${JSON.stringify(result, null, 2)}\n`);
      const page = join(values.out, `${entry.name}.html`);
      await writeFile(page, htmlPage(definition, result));
      io.err(`plots: ${page}\n`);
    }
    if (values.json) io.out(`${JSON.stringify(result)}\n`);
    else {
      const { formatTable } = await import('../../bench/report/table.ts');
      io.out(formatTable(definition, result));
    }
    return result.cases.length > 0 ? 0 : 1;
  },
});

/** The datapaths asked for, without those this machine refuses. */
async function usableDatapaths(list: string): Promise<{ datapaths: string[]; notes: string[] }> {
  const { datapathRefusal } = await import('../datapaths.ts');
  const notes: string[] = [];
  const datapaths: string[] = [];
  for (const name of list.split(',').map((each) => each.trim())) {
    const refusal = name === 'xdp' ? await labRefusal() : await datapathRefusal(name);
    if (refusal === null) datapaths.push(name);
    else notes.push(`isthmus/${name} is left out: ${refusal}`);
  }
  return { datapaths, notes };
}

/** AF_XDP is measured in a lab of its own, so only what the machine allows is asked. */
async function labRefusal(): Promise<string | null> {
  const { xdpRefusal } = await import('../../linux/xdp-probe.ts');
  return xdpRefusal()?.message ?? null;
}
