// Deploys Venus isolated pools from the package's own artifacts: two pools of three markets, an oracle, a risk fund and
// the auction house. Prints one JSON object of addresses, and of ABIs as far as a caller needs them.
//
//   node venus.mjs <rpc url> <folder of @venusprotocol/isolated-pools> [seconds]
//
// The node must hold its accounts unlocked, mine each transaction at once and allow contracts above 24,576 bytes. With
// `seconds` the second pool counts seconds instead of blocks. Test-time only: nothing of the package is kept.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Interface, JsonRpcProvider, MaxUint256, Network, parseEther as wad } from 'ethers';

const [url, folder, clock = 'blocks'] = process.argv.slice(2);
if (!url || !folder || !['blocks', 'seconds'].includes(clock)) {
  console.error('usage: node venus.mjs <rpc url> <folder of @venusprotocol/isolated-pools> [seconds]');
  process.exit(2);
}
const rpc = new JsonRpcProvider(url, undefined, { staticNetwork: Network.from(Number(await new JsonRpcProvider(url).send('eth_chainId', []))) });
const [owner] = await rpc.send('eth_accounts', []);

const BLOCKS_PER_YEAR = 1_000_000n;
const YEAR_SECONDS = 31_536_000n;
const NEXT_BID_BLOCKS = 8;
const FIRST_BID_BLOCKS = 40;

const artifact = (path) => {
  const name = path.split('/').pop();
  return JSON.parse(readFileSync(join(folder, 'artifacts', `${path}.sol`, `${name}.json`), 'utf8'));
};
const interfaceOf = (path) => new Interface(artifact(path).abi);

// One transaction from the owner, mined.
const send = async (request) => {
  const hash = await rpc.send('eth_sendTransaction', [{ from: owner, gas: '0x1c9c380', ...request }]);
  for (;;) {
    const receipt = await rpc.send('eth_getTransactionReceipt', [hash]);
    if (receipt) {
      if (receipt.status !== '0x1') throw new Error(`transaction ${hash} to ${request.to ?? 'a new contract'} reverted`);
      return receipt;
    }
    await pause(5);
  }
};

const deploy = async (path, args = []) => {
  const { abi, bytecode } = artifact(path);
  const { contractAddress } = await send({ data: bytecode + new Interface(abi).encodeDeploy(args).slice(2) });
  return contractAddress;
};
const call = (path, to, name, args) => send({ to, data: interfaceOf(path).encodeFunctionData(name, args) });

const BEACON = '@openzeppelin/contracts/proxy/beacon/UpgradeableBeacon';
const beacon = async (path, args) => {
  const implementation = await deploy(path, args);
  return { beacon: await deploy(BEACON, [implementation]), implementation };
};
const proxy = (path, of, args) =>
  deploy('@openzeppelin/contracts/proxy/beacon/BeaconProxy', [of.beacon, interfaceOf(path).encodeFunctionData('initialize', args)]);

const COMPTROLLER = 'contracts/Comptroller';
const VTOKEN = 'contracts/VToken';
const REGISTRY = 'contracts/Pool/PoolRegistry';
const SHORTFALL = 'contracts/Shortfall/Shortfall';
const RISK_FUND = 'contracts/legacy/RiskFund/RiskFund';
const RESERVE = '@venusprotocol/protocol-reserve/contracts/ProtocolReserve/ProtocolShareReserve';
const ACCESS = '@venusprotocol/governance-contracts/contracts/Governance/AccessControlManager';
const ORACLE = 'contracts/test/Mocks/MockPriceOracle';
const TOKEN = 'contracts/test/Mocks/MockToken';

const access = await deploy(ACCESS);
// Permission to call a function of any contract.
const allow = async (signature, ...to) => {
  for (const account of to) await call(ACCESS, access, 'giveCallPermission', ['0x0000000000000000000000000000000000000000', signature, account]);
};

// Prices are scaled by 36 − decimals, so that amount × price / 1e18 is dollars × 1e18.
const TOKENS = {
  usd: { decimals: 18, price: 1n * 10n ** 18n },
  eth: { decimals: 18, price: 2_000n * 10n ** 18n },
  btc: { decimals: 8, price: 40_000n * 10n ** 28n },
  gov: { decimals: 6, price: 5n * 10n ** 30n },
};
const oracle = await deploy(ORACLE);
const tokens = {};
for (const [name, { decimals, price }] of Object.entries(TOKENS)) {
  tokens[name] = await deploy(TOKEN, [name, name, decimals]);
  await call(ORACLE, oracle, 'setPrice', [tokens[name], price]);
}

const registry = await proxy(REGISTRY, await beacon(REGISTRY, []), [access]);
const riskFund = await proxy(RISK_FUND, await beacon(RISK_FUND, [owner, owner, owner]), [owner, 1, tokens.usd, access, 100]);
const reserve = await proxy(RESERVE, await beacon(RESERVE, [owner, owner, owner]), [access, 100]);
const shortfallBeacon = await beacon(SHORTFALL, [false, BLOCKS_PER_YEAR, NEXT_BID_BLOCKS, FIRST_BID_BLOCKS]);
const shortfall = await proxy(SHORTFALL, shortfallBeacon, [riskFund, wad('50'), access]);
await call(SHORTFALL, shortfall, 'updatePoolRegistry', [registry]);
await call(RISK_FUND, riskFund, 'setPoolRegistry', [registry]);
await call(RISK_FUND, riskFund, 'setShortfallContractAddress', [shortfall]);
await call(RESERVE, reserve, 'setPoolRegistry', [registry]);

for (const signature of [
  'setCloseFactor(uint256)', 'setLiquidationIncentive(uint256)', 'setMinLiquidatableCollateral(uint256)',
  'setCollateralFactor(address,uint256,uint256)', 'setMarketSupplyCaps(address[],uint256[])',
  'setMarketBorrowCaps(address[],uint256[])',
]) await allow(signature, registry, owner);
for (const signature of [
  'addPool(string,address,uint256,uint256,uint256)', 'addMarket(AddMarketInput)', 'setActionsPaused(address[],uint256[],bool)',
  'setForcedLiquidation(address,bool)', 'setReserveFactor(uint256)', 'setProtocolSeizeShare(uint256)',
  'setInterestRateModel(address)', 'setReduceReservesBlockDelta(uint256)', 'syncCash()', 'pauseAuctions()', 'resumeAuctions()',
  'updateIncentiveBps(uint256)', 'updateMinimumPoolBadDebt(uint256)', 'updateWaitForFirstBidder(uint256)',
  'updateNextBidderBlockLimit(uint256)', 'updateJumpRateModel(uint256,uint256,uint256,uint256)',
]) await allow(signature, owner);

// Time as a contract takes it: its two constructor arguments.
const byBlock = { time: [false, BLOCKS_PER_YEAR], year: BLOCKS_PER_YEAR };
const bySecond = { time: [true, 0n], year: YEAR_SECONDS };
const models = {
  jump: ({ time }) => deploy('contracts/JumpRateModelV2', [wad('0.02'), wad('0.15'), wad('3'), wad('0.8'), access, ...time]),
  twoKinks: ({ time }) => deploy('contracts/TwoKinksInterestRateModel',
    [wad('0.01'), wad('0.1'), wad('0.4'), wad('0.5'), wad('0.02'), wad('0.8'), wad('2'), ...time]),
  line: ({ time }) => deploy('contracts/WhitePaperInterestRateModel', [wad('0.03'), wad('0.4'), ...time]),
};

const comptrollerBeacon = await beacon(COMPTROLLER, [registry]);
const vtokenBeacons = { blocks: await beacon(VTOKEN, [...byBlock.time, 10n ** 16n]) };
if (clock === 'seconds') vtokenBeacons.seconds = await beacon(VTOKEN, [...bySecond.time, 10n ** 16n]);

// token: threshold (the collateral factor is a twentieth below), rate model, blocks between reserve reductions
const POOLS = [
  { name: 'Core', closeFactor: '0.5', incentive: '1.1', least: '400', clock: 'blocks',
    markets: { usd: ['0.85', 'jump', 0], eth: ['0.8', 'jump', 25], btc: ['0.75', 'twoKinks', 0] } },
  { name: 'Gaming', closeFactor: '0.4', incentive: '1.15', least: '600', clock,
    markets: { usd: ['0.8', 'line', 40], eth: ['0.75', 'twoKinks', 0], gov: ['0.6', 'jump', 0] } },
];
const SEED = { usd: wad('200000'), eth: wad('100'), btc: 5n * 10n ** 8n, gov: 40_000n * 10n ** 6n };

const pools = [];
for (const pool of POOLS) {
  const comptroller = await proxy(COMPTROLLER, comptrollerBeacon, [150, access]);
  await call(COMPTROLLER, comptroller, 'setPriceOracle', [oracle]);
  await call(REGISTRY, registry, 'addPool', [pool.name, comptroller, wad(pool.closeFactor), wad(pool.incentive), wad(pool.least)]);
  const time = pool.clock === 'seconds' ? bySecond : byBlock;
  const markets = {};
  for (const [name, [threshold, model, every]] of Object.entries(pool.markets)) {
    const rates = await models[model](time);
    const initial = 10n ** BigInt(TOKENS[name].decimals + 8) ; // one vToken of 8 decimals for one token, a little more below
    const vtoken = await proxy(VTOKEN, vtokenBeacons[pool.clock],
      [tokens[name], comptroller, rates, initial + initial / 7n, `v${name}`, `v${name}`, 8, owner, access, [shortfall, reserve], wad('0.1')]);
    if (every) await call(VTOKEN, vtoken, 'setReduceReservesBlockDelta', [every]);
    await call(TOKEN, tokens[name], 'faucet', [SEED[name]]);
    await call(TOKEN, tokens[name], 'approve', [registry, SEED[name]]);
    await call(REGISTRY, registry, 'addMarket',
      [[vtoken, wad(threshold) - wad('0.05'), wad(threshold), SEED[name], owner, MaxUint256, MaxUint256]]);
    markets[name] = { vtoken, underlying: tokens[name], model: rates };
  }
  pools.push({ name: pool.name, comptroller, markets });
}

console.log(JSON.stringify({
  owner, access, oracle, registry, shortfall, riskFund, reserve, tokens, pools,
  beacons: { comptroller: comptrollerBeacon, vtoken: vtokenBeacons.blocks, shortfall: shortfallBeacon },
}));
