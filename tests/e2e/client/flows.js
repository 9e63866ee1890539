// What programs do with the npm client, unmodified: `node flows.js PACKAGES OUT`.
//
// PACKAGES is the node_modules that it is installed in. OUT gets the outcome of each flow as
// JSON, by name: null, or what went wrong. A flow is a function whose name begins with flow_.
'use strict';
const assert = require('assert');
const fs = require('fs');
const path = require('path');

const [packages, out] = process.argv.slice(2);
const kept = {};
globalThis.localStorage = { // the package is made for browsers, and keeps a log of requests here
    getItem: (key) => (key in kept ? kept[key] : null),
    setItem: (key, value) => { kept[key] = value; },
};
const backend = require(path.join(packages, 'backend.ai-client', 'backend.ai-client-node.js'));

const { BACKEND_ACCESS_KEY, BACKEND_SECRET_KEY, BACKEND_ENDPOINT } = process.env;

async function connected(secret = BACKEND_SECRET_KEY) {
    const config = new backend.ClientConfig(BACKEND_ACCESS_KEY, secret, BACKEND_ENDPOINT);
    const client = new backend.Client(config, 'tests');
    await client.get_manager_version(); // without it requests go to where API version 4 had them
    return client;
}

async function made(resources, use) {
    const client = await connected();
    const name = `npm-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
    const session = await client.createIfNotExists('gcc:latest', name, resources);
    assert.match(session.sessionId, /^[0-9a-f-]{36}$/);
    try {
        await use(client, name, session);
    } finally {
        await client.destroy(name).catch(() => null);
    }
}

async function run(client, name, options, ...answers) {
    const id = Math.random().toString(36).slice(2).padEnd(10, 'x');
    const results = [(await client.execute(name, id, 'batch', '', options)).result];
    for (;;) {
        const last = results[results.length - 1];
        if (last.status === 'finished' || last.status === 'exec-timeout') return results;
        const asked = last.status === 'waiting-input';
        const call = asked ? ['input', answers.shift()] : ['continue', ''];
        results.push((await client.execute(name, id, ...call, {})).result);
    }
}

const text = (results, kind = 'stdout') => results
    .flatMap((result) => result.console).filter(([type]) => type === kind)
    .map(([, data]) => data).join('');

async function refused(status, promise) {
    const error = await promise.then(() => assert.fail('it was not refused'), (found) => found);
    assert.equal(error.statusCode, status, JSON.stringify(error));
    return error;
}

async function bytes(body) { // a Blob, whatever fetch the package has found
    return Buffer.from(await body.arrayBuffer());
}

async function flow_versions() {
    const client = await connected();
    assert.match(await client.get_manager_version(), /^sandboxd /);
    assert.ok(client.isAPIVersionCompatibleWith('v6.20200815'));
}

async function flow_a_wrong_secret_is_refused() {
    const client = await connected('x'.repeat(40));
    const error = await refused(401, client.createIfNotExists('gcc:latest', 'npm-wrong', {}));
    assert.match(error.title, /signature mismatch/i);
}

async function flow_build_and_run_with_input() {
    await made({ env: { WORD: 'hello' } }, async (client, name) => {
        const program = '#include <stdio.h>\n#include <stdlib.h>\n#include "sub dir/w.h"\n'
            + 'int main(void){char b[64];printf("who? ");fflush(stdout);fgets(b,64,stdin);'
            + 'printf("%s %s", getenv("WORD"), b);fputs(E,stderr);return 7;}\n';
        await client.upload(name, 'main.c', new Blob([program]));
        await client.upload(name, 'sub dir/w.h', new Blob(['#define E "한글"\n']));
        const results = await run(client, name,
            { clean: '*', build: 'gcc -o main main.c', exec: './main' }, 'world');
        assert.deepEqual(
            results.filter((r) => r.status !== 'continued').map((r) => [r.status, r.exitCode]),
            [['clean-finished', 0], ['build-finished', 0], ['waiting-input', null], ['finished', 7]]);
        assert.equal(text(results), 'who? hello world\n');
        assert.equal(text(results, 'stderr'), '한글');
        const { result } = await client.get_logs(name);
        assert.match(result.logs, /hello world\n/);
    });
}

async function flow_a_failed_build() {
    await made({}, async (client, name) => {
        const results = await run(client, name, { build: 'exit 3', exec: 'echo never' });
        assert.equal(results[results.length - 1].exitCode, 127);
        assert.equal(text(results), '');
    });
}

async function flow_files_come_back() {
    await made({}, async (client, name) => {
        await run(client, name, { exec: "mkdir -p d; printf 0123 > 'd/a b'; printf 한글 > 한글" });
        assert.equal(String(await bytes(await client.download_single(name, 'd/a b'))), '0123');
        const whole = String(await bytes(await client.download(name, ['d/a b', '한글'])));
        assert.ok(whole.includes('0123') && whole.includes('한글') && whole.includes('ustar'));
        await refused(404, client.download(name, ['nowhere']));
        await refused(400, client.download_single(name, '../../etc/passwd'));
    });
}

async function flow_a_session_is_found_again_and_told_about() {
    await made({ mem: '256m', cpu: 1 }, async (client, name, session) => {
        assert.equal(session.created, true);
        const again = await client.createIfNotExists('gcc:latest', name, {});
        assert.deepEqual([again.sessionId, again.created], [session.sessionId, false]);
        const info = await client.get_info(name);
        assert.deepEqual([info.status, info.lang], ['RUNNING', 'gcc:latest']);
        assert.equal(JSON.parse(info.occupiedSlots).mem, String(256 << 20));
        await refused(400, client.createIfNotExists('python:3', name, {}));
        await refused(404, client.createIfNotExists('nosuchlanguage:85', `${name}-b`, {}));
    });
}

async function flow_restart_keeps_files() {
    await made({}, async (client, name) => {
        await run(client, name, { exec: 'echo kept > file' });
        await client.restart(name);
        assert.equal(text(await run(client, name, { exec: 'cat file' })), 'kept\n');
    });
}

async function flow_destroy_tells_what_was_used() {
    await made({}, async (client, name) => {
        await run(client, name, { exec: 'true' });
        const { stats } = await client.destroy(name);
        assert.equal(stats.runs, 1);
        await refused(404, client.get_info(name));
    });
}

async function flow_a_batch_session_has_a_log() {
    await made({ type: 'batch', startupCommand: 'echo from the task' }, async (client, name) => {
        let log = '';
        for (let tries = 0; !log.includes('from the task') && tries < 50; tries += 1) {
            await new Promise((done) => { setTimeout(done, 100); });
            log = String(await client.getTaskLogs(name));
        }
        assert.equal(log, 'from the task\n');
    });
}

async function flow_lists() {
    await made({}, async (client, name, session) => {
        const { compute_session_list: page } = await client.computeSession.list();
        const row = page.items.find((item) => item.name === name);
        assert.deepEqual([row.id, row.status], [session.sessionId, 'RUNNING']);
        const count = await client.computeSession.total_count();
        assert.equal(count.compute_session_list.total_count, page.total_count);
    });
}

async function flow_folders() {
    const client = await connected();
    const name = `npm-${process.pid}`;
    await client.vfolder.create(name, 'local');
    try {
        assert.ok((await client.vfolder.list()).some((folder) => folder.name === name));
        assert.equal((await client.vfolder.info(name)).name, name);
        await client.vfolder.mkdir('d', name);
        const content = new Blob(['0123456789']);
        const url = await client.vfolder.create_upload_session('d/a b.txt', content, name);
        const headers = {
            'Tus-Resumable': '1.0.0', 'Upload-Offset': '0',
            'Content-Type': 'application/offset+octet-stream',
        };
        assert.equal((await fetch(url, { method: 'PATCH', headers, body: content })).status, 204);
        await client.vfolder.rename_file('d/a b.txt', 'c.txt', name);
        const listed = await client.vfolder.list_files('d', name);
        assert.deepEqual(listed.items.map((item) => [item.name, item.size]), [['c.txt', 10]]);
        const answer = await client.vfolder.download('d/c.txt', name);
        assert.equal(await answer.text(), '0123456789');
        const session = `${name}-s`;
        await client.createIfNotExists('gcc:latest', session, { mounts: [name] });
        try {
            assert.equal(text(await run(client, session, { exec: `cat ${name}/d/c.txt` })), '0123456789');
        } finally {
            await client.destroy(session);
        }
        await client.vfolder.delete_files(['d'], true, name);
        assert.deepEqual((await client.vfolder.list_files('.', name)).items.map((i) => i.name), []);
    } finally {
        await client.vfolder.delete(name);
    }
    await refused(404, client.vfolder.info(name));
}

async function main() {
    const flows = [
        flow_versions, flow_a_wrong_secret_is_refused, flow_build_and_run_with_input,
        flow_a_failed_build, flow_files_come_back, flow_a_session_is_found_again_and_told_about,
        flow_restart_keeps_files, flow_destroy_tells_what_was_used, flow_a_batch_session_has_a_log,
        flow_lists, flow_folders,
    ];
    const outcomes = {};
    for (const flow of flows) {
        outcomes[flow.name] = await flow().then(
            () => null, (error) => String(error.stack || JSON.stringify(error)));
    }
    fs.writeFileSync(out, JSON.stringify(outcomes));
    process.exit(0); // the package leaves a timer for every request
}

main();
