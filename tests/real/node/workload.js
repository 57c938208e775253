// node-postgres as an application uses it. Connects where libpq's variables say; prints what it saw, a JSON pair a line.
'use strict'

const { once } = require('node:events')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')

const CLIENTS = Number(process.env.CLIENTS)
const note = (label, value) => console.log(JSON.stringify([label, value]))
const connect = async () => {
  const client = new Client({ connectionTimeoutMillis: 30000 })
  await client.connect()
  return client
}
const state = (error) => [error.name, error.code ?? null, error.message]
const refused = (promise) => promise.then((result) => ['no error', result?.rows ?? null], state)
const moment = new Date(Date.UTC(2024, 1, 29, 12, 30, 15, 123))

const TABLES = `
  CREATE TYPE mood AS ENUM ('sad', 'ok');
  CREATE TYPE place AS (x integer, label text);
  CREATE TABLE item (id integer PRIMARY KEY, owner integer NOT NULL, name text, amount numeric, at timestamptz, tags text[], body jsonb, raw bytea, mood mood, place place);
  CREATE TABLE log (owner integer, step integer, UNIQUE (owner, step))`

// One client: named and unnamed statements over many short transactions.
async function work(client, me) {
  const seen = []
  const insert = (key) => client.query({
    name: 'insert item',
    text: 'INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, ROW($1, $3))',
    values: [key, me, `name ${key}`, String(key / 8), moment, ['a', null, 'b"\\'], { key, list: [1, 'é'] }, Buffer.from([0, 1, 255, key & 255]), 'ok'],
  })
  for (let turn = 0; turn < 12; turn++) {
    const key = me * 1000 + turn
    await client.query('BEGIN')
    await insert(key)
    await client.query('SAVEPOINT s')
    const step = { name: 'log step', text: 'INSERT INTO log VALUES ($1, $2)', values: [me, turn >> 1] }
    const failure = await refused(client.query(step))
    await client.query(failure[0] === 'no error' ? 'RELEASE s' : 'ROLLBACK TO s')
    seen.push(failure)
    await client.query(turn % 4 === 3 ? 'ROLLBACK' : 'COMMIT')
    seen.push((await client.query({ name: 'read item', text: 'SELECT * FROM item WHERE id = $1', values: [key] })).rows)
    // The same name with another text in every client.
    seen.push((await client.query({ name: 'own', text: `SELECT $1::int * ${me} AS n`, values: [turn] })).rows)
    seen.push(await refused(client.query('SELECT 1 / ($1::int - 3)', [turn])))
    // Sent at once, answered in order.
    const many = [1, 2, 3, 4].map((n) => client.query({ name: `add ${n}`, text: `SELECT $1::int + ${n} AS n`, values: [turn] }))
    seen.push((await Promise.all(many)).map((result) => result.rows[0].n))
  }
  seen.push(await refused(client.query({ name: 'own', text: 'SELECT 1', values: [] })))
  seen.push(await refused(client.query({ name: 'bad', text: 'SELECT * FROM nowhere' })))
  seen.push(await refused(client.query({ name: 'bad', text: 'SELECT 7 AS n' })))
  seen.push((await client.query('SELECT 1 AS a; SELECT 2 AS b')).map((result) => result.rows))
  seen.push((await client.query({ text: 'SELECT 1 AS n, 2 AS n', rowMode: 'array' })).rows)
  seen.push((await client.query("SELECT repeat('z', $1) AS big", [2000000])).rows[0].big.length)
  seen.push((await client.query('SELECT count(*), sum(step) FROM log WHERE owner = $1', [me])).rows)
  return seen
}

async function cursors(client) {
  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, $1::int) n', [250]))
  note('cursor', [(await cursor.read(100)).length, (await cursor.read(100))[99], (await cursor.read(100)).length, (await cursor.read(100)).length])
  await cursor.close()
  const early = client.query(new Cursor('SELECT n FROM generate_series(1, 100000) n'))
  note('left early', (await early.read(3)).map((row) => row.n))
  await early.close()
  await client.query('COMMIT')
  let sum = 0
  for await (const row of client.query(new QueryStream('SELECT n FROM generate_series(1, $1::int) n', [20000], { batchSize: 500 }))) sum += row.n
  note('stream', sum)
  for await (const row of client.query(new QueryStream("SELECT n, repeat('s', 1000) FROM generate_series(1, 50000) n", [], { batchSize: 50 }))) {
    if (row.n === 120) break
  }
  note('stream left', (await client.query('SELECT 1 AS one')).rows)
  const failing = client.query(new Cursor('SELECT 10 / (5 - n) FROM generate_series(1, 10) n'))
  note('error in a cursor', [await failing.read(3).then((rows) => rows.length), await failing.read(3).then(() => 'no error', state)])
  note('after it', (await client.query('SELECT 2 AS two')).rows)
}

async function changedBeneath(first, second) {
  await first.query('CREATE TABLE shape (a integer); INSERT INTO shape VALUES (1)')
  const read = { name: 'read shape', text: 'SELECT * FROM shape' }
  for (const client of [first, second]) note('before', (await client.query(read)).rows)
  await first.query("ALTER TABLE shape ADD COLUMN b text DEFAULT 'b'")
  for (const client of [second, first, second]) note('a column more', await refused(client.query(read)))
  for (const client of [first, second]) {
    await client.query('BEGIN')
    note('in a transaction', await refused(client.query(read)))
    await client.query('ROLLBACK')
  }
  await first.query('DEALLOCATE ALL')
  note('deallocated', await refused(first.query(read)))
}

// Until a query with this mark is asleep (one that is merely active may be in its Parse), then what `sql` does to it.
async function strike(client, sql, mark) {
  const text = `SELECT count(${sql}(pid)) AS n FROM pg_stat_activity WHERE query LIKE $1 AND wait_event = 'PgSleep'`
  while ((await client.query(text, [`%${mark}%`])).rows[0].n === '0');
}

async function interrupted(other) {
  let victim = await connect()
  for (let time = 0; time < 3; time++) {
    const sleeping = refused(victim.query("SELECT pg_sleep(60), 'to be cancelled'"))
    await strike(other, 'pg_cancel_backend', 'to be cancelled')
    note('cancelled', [await sleeping, (await victim.query('SELECT 1 AS one')).rows])
  }
  await victim.query('BEGIN')
  // Read in portions, so that the server sits in the middle of it. (A stream would wait for ReadyForQuery for ever.)
  const cursor = victim.query(new Cursor("SELECT n, 'to be terminated', pg_sleep(0.001) FROM generate_series(1, 100000) n"))
  victim.on('error', () => {})
  const ended = (async () => {
    while ((await cursor.read(1000)).length > 0);
  })().then(() => 'no error', (error) => [error.code ?? null, error.message])
  await strike(other, 'pg_terminate_backend', 'to be terminated')
  note('terminated in a cursor', await ended)

  victim = await connect()
  await victim.query('BEGIN')
  await victim.query('INSERT INTO log VALUES (0, 1)')
  await victim.query('LOCK TABLE item IN ACCESS EXCLUSIVE MODE')
  victim.on('error', () => {})
  victim.connection.stream.destroy()
  // The lock is free only when the server knows that its client has gone.
  note('the lock is free', (await other.query('SELECT count(*) FROM item')).rows)
  note('rolled back', (await other.query('SELECT * FROM log WHERE owner = 0')).rows)
}

async function listening(other) {
  const listener = await connect()
  const heard = []
  const last = new Promise((resolve) => listener.on('notification', ({ channel, payload }) => {
    heard.push([channel, payload])
    if (heard.length === 5) resolve()
  }))
  await listener.query('LISTEN news')
  for (let n = 0; n < 5; n++) await other.query('SELECT pg_notify($1, $2)', ['news', `number ${n}`])
  await last
  note('heard', heard)
  await listener.query('UNLISTEN news')
  await listener.end()
}

async function pooled() {
  const pool = new Pool({ max: CLIENTS, connectionTimeoutMillis: 30000 })
  const tasks = Array.from({ length: 60 }, async (_, n) => {
    const one = await pool.query({ name: 'pooled', text: 'SELECT $1::int AS n', values: [n] })
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await client.query({ name: 'pooled insert', text: 'INSERT INTO log VALUES (99, $1)', values: [n] })
      await client.query(n % 2 ? 'COMMIT' : 'ROLLBACK')
    } finally {
      client.release()
    }
    return one.rows[0].n
  })
  note('pooled', await Promise.all(tasks))
  note('committed', (await pool.query('SELECT count(*), sum(step) FROM log WHERE owner = 99')).rows)
  await pool.end()
}

async function main() {
  const first = await connect()
  await first.query(TABLES)
  const all = Array.from({ length: CLIENTS }, async (_, n) => {
    const client = await connect()
    const seen = await work(client, n + 1)
    await client.end()
    return seen
  })
  for (const [n, seen] of (await Promise.all(all)).entries()) note(`client ${n + 1}`, seen)
  await pooled()
  const second = await connect()
  await cursors(second)
  await changedBeneath(first, second)
  await interrupted(second)
  await listening(second)
  for (const client of [first, second]) {
    const ended = once(client, 'end')
    await client.end()
    await ended
  }
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
