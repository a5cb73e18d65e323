/**
 * The key-value server: accepts clients up to its limits, keeps the engine's time, upkeep and statistics, and closes clients
 * that are idle, killed or do not read. It touches the kernel it is given and the engine it makes.
 */
import { randomFillSync } from 'node:crypto';
import type { Address, Connection, Coroutine, Kernel, Listener, ListenOptions, Task } from '../../index.ts';
import { CoroutineClass, IsthmusError, SocketOption } from '../../index.ts';
import { formatAddress } from '../app.ts';
import { Client, linger, PIECE_BYTES } from './client.ts';
import { parseMemory } from './config.ts';
import { Engine, type ServerFacts } from './engine.ts';
import { Output } from './output.ts';
import type { Session, SessionAddress } from './session.ts';

/** Upkeep is due this often (redis: hz 10). */
const TICK_MS = 100;
/** While there is more upkeep than one call does: about a quarter of the core, as redis's active expiry takes. */
const BUSY_TICK_MS = 4;
/** Refused clients whose error is still on its way; beyond it they are closed without ceremony. */
const LINGERING_MAX = 1024;
/** Idle clients are looked for in rounds of a second. */
const TICKS_PER_ROUND = 10;
const SAMPLES = 16;
/** What even the slowest of many clients may occupy of the heap. */
const SHARE_MIN_BYTES = 2048;
/** Bounds of what the replies to one batch may occupy of it; beyond it they wait in plain memory and are copied. */
const REPLY_MIN_BYTES = 131072;
const REPLY_MAX_BYTES = 2 * 1048576;
const REFUSAL = '-ERR max number of clients reached\r\n';

export interface KvServerOptions {
  /** Unix time in milliseconds. Default `Date.now`. */
  readonly wallClock?: (() => number) | undefined;
  /** Default 16. */
  readonly databases?: number;
}

export class KvServer {
  readonly kernel: Kernel;
  readonly engine: Engine;
  readonly output: Output;
  /** Replies to all clients that wait in plain memory, and where reading stops until they are gone; bytes. */
  waiting = 0;
  waitingMax = 512 * 1048576;
  /** Bytes of unread replies beyond which no more is read from a client, until it has caught up. */
  outputSoft = 8 * 1048576;
  /** Seconds without progress after which a client that does not read is closed; 0 never. */
  outputStall = 60;
  /** Clients that read more slowly than they ask. */
  readonly behind = new Set<Client>();
  /** How often a client fell behind. */
  timesBehind = 0;
  /** Connections that ended with an error of the network. */
  broken = 0;
  /** Connections refused for want of a place, and closed for not reading. */
  rejected = 0;
  /** Facts for INFO that only whoever made the server knows. */
  facts: ServerFacts = {};
  outputLimitDisconnections = 0;
  idleDisconnections = 0;
  readonly #clients: Client[] = [];
  readonly #listeners: Listener[] = [];
  readonly #wallClock: () => number;
  /** Unix time minus the kernel's time. */
  #clockOffset: number;
  readonly #heapForSlow: number;
  #lingering = 0;
  #nextToCheck = 0;
  readonly #random = new Int32Array(1024);
  #randomLeft = 0;
  readonly #opsPerSecond = new Float64Array(SAMPLES);
  #sample = 0;
  #sampledAt = 0;
  #sampledCommands = 0;

  constructor(k: Kernel, options: KvServerOptions = {}) {
    this.kernel = k;
    this.#wallClock = options.wallClock ?? Date.now;
    this.#clockOffset = this.#wallClock() - k.now;
    this.output = new Output(k.heap);
    const { bytes, count } = k.heap.stats().find((sizes) => sizes.bytes >= PIECE_BYTES) ?? { bytes: 0, count: 0 };
    this.#heapForSlow = (bytes * count) / 2;
    this.#shareHeap();
    this.engine = new Engine({
      // one clock reading for a whole turn
      now: () => this.kernel.now + this.#clockOffset,
      random: () => this.#nextRandom(),
      ...(options.databases !== undefined && { databases: options.databases }),
      facts: () => this.#allFacts(),
      unread: (session) => (session.owner as Client).unread,
      onKill: (session) => this.#kill(session),
    });
    this.#defineOutputLimit();
  }

  /**
   * redis's parameter with the same three numbers. The hard limit closes a client at once; at the soft one its requests wait;
   * the seconds are those without any progress.
   */
  #defineOutputLimit(): void {
    const { config } = this.engine;
    config.define('client-output-buffer-limit', {
      get: () => `normal ${config.outputMax} ${this.outputSoft} ${this.outputStall}`,
      set: (value) => {
        const [name, hard, soft, seconds, ...more] = value.toLowerCase().split(' ');
        const numbers = [parseMemory(hard ?? ''), parseMemory(soft ?? ''), Number(seconds)];
        if (more.length > 0 || !numbers.every((number) => Number.isSafeInteger(number) && number >= 0)) {
          return 'Wrong number or format of arguments in buffer limit configuration.';
        }
        if (name !== 'normal') return 'Invalid client class specified in buffer limit configuration.';
        [config.outputMax, this.outputSoft, this.outputStall] = numbers as [number, number, number];
        return null;
      },
    });
  }

  /** Bytes of replies a client may leave unread; a client beyond it is closed. */
  get hardLimit(): number {
    return this.engine.config.outputMax || Number.MAX_SAFE_INTEGER;
  }

  /** Bytes of unread replies beyond which no more is read from a client, until it has caught up. */
  get softLimit(): number {
    return this.waiting > this.waitingMax ? 0 : this.outputSoft || Number.MAX_SAFE_INTEGER;
  }

  /** Bytes of the heap that one client which is behind may occupy: such clients share half of the buffers of their size. */
  get heapShare(): number {
    return Math.max(SHARE_MIN_BYTES, Math.floor(this.#heapForSlow / this.behind.size));
  }

  get clients(): number {
    return this.#clients.length;
  }

  /** Opens a listener; its clients are served while {@link run} runs. */
  listen(options: ListenOptions & { /** Seconds. */ readonly keepAlive?: number }): Listener {
    const listener = this.kernel.listen(options);
    this.#listeners.push(listener);
    const { keepAlive = 0, path } = options;
    if (keepAlive > 0 && path === undefined) {
      // accepted sockets inherit these (tcp(7)), so no client costs a call
      this.kernel.setsockopt(listener.qd, SocketOption.KEEP_ALIVE, 1);
      this.kernel.setsockopt(listener.qd, SocketOption.KEEP_ALIVE_IDLE, keepAlive);
      this.kernel.setsockopt(listener.qd, SocketOption.KEEP_ALIVE_INTERVAL, Math.max(1, Math.floor(keepAlive / 3)));
    }
    return listener;
  }

  /** Serves all listeners until it is cancelled. */
  *run(): Coroutine {
    const { kernel } = this;
    const tasks: Task<void>[] = [kernel.spawn(this.#upkeep(), { class: CoroutineClass.BACKGROUND })];
    try {
      for (const listener of this.#listeners) tasks.push(kernel.spawn(listener.serve((conn) => this.#accept(conn))));
      for (const task of tasks) yield* task.join();
    } finally {
      for (const task of tasks) task.cancel();
      this.close();
    }
  }

  /** Closes the listeners and every client. */
  close(): void {
    for (const listener of this.#listeners) listener.close();
    for (const { conn } of [...this.#clients]) conn.close();
    this.output.drop();
  }

  #accept(conn: Connection): Coroutine {
    const { engine } = this;
    if (this.#clients.length >= engine.config.maxClients) return this.#refuse(conn);
    const client = new Client(this, conn, engine.createSession(addressesOf(conn)));
    client.session.owner = client;
    client.index = this.#clients.length;
    this.#clients.push(client);
    return client.serve();
  }

  *#refuse(conn: Connection): Coroutine {
    this.rejected++;
    if (this.#lingering >= LINGERING_MAX) return;
    this.#lingering++;
    try {
      yield* conn.write(REFUSAL);
      yield* linger(conn);
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
    } finally {
      this.#lingering--;
    }
  }

  /** Called by a client at its end. */
  ended(client: Client): void {
    this.engine.closeSession(client.session);
    const last = this.#clients.pop()!;
    if (last !== client) {
      this.#clients[client.index] = last;
      last.index = client.index;
    }
  }

  /** The client does not read its replies: closes it at once. */
  giveUp(client: Client): void {
    this.outputLimitDisconnections++;
    client.session.closing = true;
    client.conn.abort();
  }

  #kill(session: Session): void {
    this.engine.closeSession(session); // gone at once, as CLIENT LIST shall show
    (session.owner as Client).conn.close();
  }

  // ---- Upkeep --------------------------------------------------------------------------------------------------

  *#upkeep(): Coroutine {
    const { kernel } = this;
    for (let nextTick = kernel.now; ; ) {
      const more = this.engine.cron();
      if (kernel.now >= nextTick) {
        nextTick = kernel.now + TICK_MS;
        this.#clockOffset = this.#wallClock() - kernel.now;
        this.#sampleOps();
        this.#shareHeap();
        this.#closeStalled();
        this.#closeIdle();
      }
      yield* kernel.sleep(more ? BUSY_TICK_MS : TICK_MS);
    }
  }

  #sampleOps(): void {
    const { commandsProcessed } = this.engine;
    const ms = this.kernel.now - this.#sampledAt;
    if (ms > 0) this.#opsPerSecond[this.#sample] = ((commandsProcessed - this.#sampledCommands) * 1000) / ms;
    this.#sample = (this.#sample + 1) % SAMPLES;
    this.#sampledAt = this.kernel.now;
    this.#sampledCommands = commandsProcessed;
  }

  /** One reply may take much of the heap while few clients are behind, and little when many are. */
  #shareHeap(): void {
    const share = Math.floor(this.#heapForSlow / (this.behind.size + 4));
    this.output.heapBytes = Math.max(REPLY_MIN_BYTES, Math.min(share, REPLY_MAX_BYTES));
  }

  #closeStalled(): void {
    const limit = this.outputStall * 1000;
    if (limit === 0) return;
    for (const client of this.behind) if (client.stalledFor(this.kernel.now) > limit) this.giveUp(client);
  }

  #closeIdle(): void {
    const { engine } = this;
    const limit = engine.config.timeout * 1000;
    if (limit === 0) return;
    const clients = this.#clients;
    const before = engine.options.now() - limit;
    for (let n = Math.ceil(clients.length / TICKS_PER_ROUND); n > 0; n--) {
      this.#nextToCheck = this.#nextToCheck + 1 < clients.length ? this.#nextToCheck + 1 : 0;
      const client = clients[this.#nextToCheck];
      if (client === undefined || client.session.lastActiveAt >= before || this.behind.has(client)) continue;
      this.idleDisconnections++;
      client.conn.close();
    }
  }

  #nextRandom(): number {
    if (this.#randomLeft === 0) {
      randomFillSync(this.#random);
      this.#randomLeft = this.#random.length;
    }
    return this.#random[--this.#randomLeft]!;
  }

  #allFacts(): ServerFacts {
    const { engine, kernel } = this;
    let ops = 0;
    for (const sample of this.#opsPerSecond) ops += sample / SAMPLES;
    const { user, system } = process.cpuUsage();
    return {
      server: { process_id: process.pid, ...this.facts['server'] },
      memory: { used_memory_rss: process.memoryUsage.rss() },
      cpu: { used_cpu_sys: (system / 1e6).toFixed(6), used_cpu_user: (user / 1e6).toFixed(6) },
      clients: { connected_clients: this.clients, maxclients: engine.config.maxClients, blocked_clients: 0 },
      stats: {
        total_connections_received: engine.sessionsCreated + this.rejected,
        instantaneous_ops_per_sec: Math.round(ops),
        total_net_output_bytes: this.output.total,
        rejected_connections: this.rejected,
        client_output_buffer_limit_disconnections: this.outputLimitDisconnections,
      },
      isthmus: {
        datapath: kernel.datapath.name,
        heap_buffers_in_use: kernel.heap.inUse,
        heap_exhausted: kernel.heap.exhausted,
        broken_connections: this.broken,
        clients_behind: this.behind.size,
        times_behind: this.timesBehind,
        replies_waiting_bytes: this.waiting,
        idle_disconnections: this.idleDisconnections,
      },
    };
  }
}

/** As CLIENT LIST shows them; a peer that has gone already has no name any more. */
function addressesOf(conn: Connection): SessionAddress {
  try {
    return { addr: nameOf(conn.remoteAddress), laddr: nameOf(conn.localAddress), fd: conn.qd };
  } catch {
    return { fd: conn.qd };
  }
}

function nameOf(address: Address): string {
  if ('path' in address) return `${address.path.replace('\0', '@') || '(socket)'}:0`;
  return formatAddress(address);
}
