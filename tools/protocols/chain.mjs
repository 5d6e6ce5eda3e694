// What every deploy script needs: its options, the node's accounts, deploying with libraries, one JSON object at the end.
//
//   node tools/protocols/<protocol>.mjs --rpc URL --keeper ADDRESS --accounts N --seed N
import { parseArgs } from 'node:util';
import { ethers } from 'ethers';
import { fail } from './packages.mjs';

export { ethers };

/** The options of a deploy script: `rpc`, `keeper`, `accounts` and `seed`. */
export function options() {
  const { values } = parseArgs({
    options: {
      rpc: { type: 'string' },
      keeper: { type: 'string' },
      accounts: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
    },
  });
  if (!values.rpc || !values.keeper) fail('usage: --rpc URL --keeper ADDRESS [--accounts N] [--seed N]');
  return { ...values, accounts: Number(values.accounts), seed: Number(values.seed) };
}

/** A connection and the node's own accounts. The node must mine at each transaction. */
export async function connect(url) {
  const request = new ethers.FetchRequest(url);
  const { chainId } = await new ethers.JsonRpcProvider(request).getNetwork();
  const rpc = new ethers.JsonRpcProvider(request, chainId, {
    staticNetwork: true,
    cacheTimeout: -1,
    pollingInterval: 10,
  });
  return { rpc, accounts: await rpc.listAccounts() };
}

/** Deploys an artifact, with its libraries by name. */
export async function deploy({ abi, bytecode, linkReferences }, from, args = [], libraries = {}) {
  let code = typeof bytecode === 'string' ? bytecode : bytecode.object;
  if (!code.startsWith('0x')) code = `0x${code}`;
  for (const [name, places] of Object.values(linkReferences ?? {}).flatMap(Object.entries)) {
    const address = libraries[name] ?? fail(`the library ${name} must be deployed first`);
    for (const { start, length } of places) {
      code = code.slice(0, 2 + 2 * start) + address.slice(2).toLowerCase() + code.slice(2 + 2 * (start + length));
    }
  }
  const contract = await new ethers.ContractFactory(abi, code, from).deploy(...args);
  return contract.waitForDeployment();
}

/** Sends a transaction, waits for it, and answers its receipt. */
export async function sent(transaction) {
  return (await transaction).wait();
}

/** Makes the node act for an account that it has no key of, and gives it native currency. */
export async function impersonate(rpc, address) {
  await rpc.send('anvil_impersonateAccount', [address]);
  await rpc.send('anvil_setBalance', [address, ethers.toQuantity(ethers.parseEther('1000'))]);
  return rpc.getSigner(address);
}

/** The script's whole output. Amounts become decimal strings. */
export function answer(object) {
  console.log(JSON.stringify(object, (_, value) => (typeof value === 'bigint' ? value.toString() : value)));
}
