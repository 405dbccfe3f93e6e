// Every call of etcd3 for Node on members with mutual TLS.
// Arguments: ca certificate key host:port...
const assert = require('assert');
const fs = require('fs');
const { Etcd3 } = require('etcd3');

const [ca, certificate, key, ...members] = process.argv.slice(2);

async function calls(one, name) {
  const of = (rest) => `js/${name}/${rest}`;
  await one.put(of('a')).value('1');
  assert.strictEqual(await one.get(of('a')).string(), '1');
  assert.strictEqual(await one.get(of('a')).exists(), true);
  await one.put(of('b')).value('2');
  const all = one.getAll().prefix(of(''));
  assert.deepStrictEqual(await all.strings(), { [of('a')]: '1', [of('b')]: '2' });
  assert.deepStrictEqual(await one.getAll().prefix(of('')).sort('Key', 'Descend').keys(), [of('b'), of('a')]);
  assert.strictEqual(await one.getAll().prefix(of('')).count(), 2);
  const swapped = await one
    .if(of('a'), 'Value', '==', '1')
    .and(of('a'), 'Version', '==', 1)
    .then(one.put(of('a')).value('3'), one.get(of('a')))
    .else(one.get(of('a')))
    .commit();
  assert.strictEqual(swapped.succeeded, true);
  await one.stm().transact(async (tx) => {
    const value = await tx.get(of('a')).string();
    await tx.put(of('a')).value(value + '!');
  });
  assert.strictEqual(await one.get(of('a')).string(), '3!');

  const lease = one.lease(60);
  await lease.put(of('leased')).value('x');
  await lease.keepaliveOnce();
  await lease.revoke();
  assert.strictEqual(await one.get(of('leased')).exists(), false);

  await one.lock(of('lock')).ttl(30).do(async () => {});

  const election = one.election(of('election'), 30);
  const campaign = election.campaign('me');
  await new Promise((resolve, reject) => campaign.on('elected', resolve).on('error', reject));
  assert.strictEqual(await election.leader(), 'me');
  await campaign.proclaim('still me');
  await campaign.resign();

  const watcher = await one.watch().prefix(of('w')).create();
  const event = new Promise((resolve) => watcher.once('put', resolve));
  await one.put(of('w1')).value('7');
  assert.strictEqual((await event).value.toString(), '7');
  const gone = new Promise((resolve) => watcher.once('delete', resolve));
  await one.delete().key(of('w1'));
  await gone;
  await watcher.cancel();

  const scoped = one.namespace(of('n/'));
  await scoped.put('k').value('v');
  assert.strictEqual(await one.get(of('n/k')).string(), 'v');

  const status = await one.maintenance.status();
  assert.ok(status.version.startsWith('3.7.'));
  assert.strictEqual((await one.cluster.memberList({})).members.length, 3);
  await one.maintenance.alarm({ action: 'Get' });
  await one.maintenance.defragment();
  await one.maintenance.hash();
  const role = one.role(`role-${name}`);
  await role.create();
  await role.grant({ permission: 'Readwrite', key: of('a') });
  const user = one.user(`user-${name}`);
  await user.create('p');
  await user.addRole(role);
  assert.strictEqual((await user.roles()).length, 1);
  await user.delete();
  await role.delete();
  await one.delete().prefix(of(''));
  assert.strictEqual(await one.getAll().prefix(of('')).count(), 0);
}

async function main() {
  const read = (path) => fs.readFileSync(path);
  for (const member of members) {
    const one = new Etcd3({
      hosts: [`https://${member}`],
      credentials: { rootCertificate: read(ca), privateKey: read(key), certChain: read(certificate) },
    });
    await calls(one, member);
    one.close();
  }
  console.log('etcd3 for Node: every call on', members.length, 'members');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
