// What Node.js programs do: each part prints its name when it has worked.
const assert = require('assert'), child = require('child_process'), crypto = require('crypto');
const dns = require('dns').promises, fs = require('fs'), http = require('http'), os = require('os');
const { Worker } = require('worker_threads'), zlib = require('zlib'), { once } = require('events');

const parts = {
  async processes() {
    assert.equal(String(child.execSync('echo 2')), '2\n');
    assert.equal(String(child.spawnSync('cat', { input: 'x' }).stdout), 'x');
    const forked = child.fork('-e', ['process.send(7)'], { execArgv: ['-e', 'process.send(7)'] });
    assert.equal((await once(forked, 'message'))[0], 7);
  },
  async threads() {
    const code = 'require("worker_threads").parentPort.postMessage(1)';
    const all = Array.from({ length: 4 }, () => once(new Worker(code, { eval: true }), 'message'));
    assert.equal((await Promise.all(all)).length, 4);
    const word = new Int32Array(new SharedArrayBuffer(4));
    assert.equal(Atomics.wait(word, 0, 0, 10), 'timed-out');
  },
  async signals() {
    const alive = setInterval(() => {}, 100), got = once(process, 'SIGUSR2');
    process.kill(process.pid, 'SIGUSR2');
    await got;
    clearInterval(alive);
    const sleeper = child.spawn('sleep', ['60']);
    sleeper.kill();
    assert.equal((await once(sleeper, 'exit'))[1], 'SIGTERM');
  },
  async sockets() {
    const server = http.createServer((request, response) => response.end('x'));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const answer = await new Promise(resolve => http.get(server.address(), resolve));
    assert.equal(answer.statusCode, 200);
    answer.resume();
    server.close();
    assert((await dns.lookup('localhost')).address);
  },
  async files() {
    fs.writeFileSync('f', zlib.gzipSync('40'));
    assert.equal(String(zlib.gunzipSync(await fs.promises.readFile('f'))), '40');
    const seen = new Promise(resolve => {
      const watcher = fs.watch('.', () => { watcher.close(); resolve(); });
    });
    fs.writeFileSync('g', 'x');
    await seen;
    fs.createReadStream('f').pipe(fs.createWriteStream('h'));
  },
  async library() {
    assert(os.cpus().length && crypto.randomBytes(8).length);
    await new Promise(resolve => setTimeout(resolve, 5));
    let garbage = [];
    for (let i = 0; i < 1e6; i++) garbage.push({ i });
    assert.equal(new Function('return 6 * 7')(), 42);
  },
};
(async () => {
  for (const [name, part] of Object.entries(parts)) { await part(); console.log(name); }
})();
