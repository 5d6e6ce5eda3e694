// A whole Aave v3.6 market: five reserves of 6, 8 and 18 decimals, two e-mode categories, one sentinel that can be switched
// on, all from the package's own sources. The only doubles are the price feeds and the sequencer feed: contracts of a few
// bytes that answer what they were last told.
import { chain, compile, deploy, ethers, inModules, inPackage, mined, report } from './lib.mjs';

const { deployer } = await chain();
const own = await deployer.getAddress();

const source = path => inPackage('@aave-dao/aave-v3-origin', 'src/contracts', path);
const files = [
  'instances/PoolInstance.sol',
  'instances/PoolConfiguratorInstance.sol',
  'instances/ATokenInstance.sol',
  'instances/VariableDebtTokenInstance.sol',
  'misc/DefaultReserveInterestRateStrategyV2.sol',
  'misc/AaveOracle.sol',
  'misc/PriceOracleSentinel.sol',
  'protocol/configuration/ACLManager.sol',
  'protocol/configuration/PoolAddressesProvider.sol',
  'helpers/AaveProtocolDataProvider.sol',
  'mocks/testnet-helpers/TestnetERC20.sol',
  'mocks/oracle/SequencerOracle.sol',
];
const roots = Object.fromEntries(files.map(file => [`aave/${file}`, source(file)]));
const prefixes = [
  ['aave/', path => source(path)],
  ['openzeppelin-contracts-upgradeable/contracts/', path => inModules('@openzeppelin/contracts-upgradeable', path)],
  ['openzeppelin-contracts/contracts/', path => inModules('@openzeppelin/contracts', path)],
  ['@openzeppelin/', path => inModules('@openzeppelin', path)],
  ['solidity-utils/', path => inPackage('@bgd-labs/solidity-utils', 'src', path)],
];
const resolve = path => {
  const [prefix, file] = prefixes.find(([prefix]) => path.startsWith(prefix)) ?? ['', path => path];
  return file(path.slice(prefix.length));
};
const contracts = compile('aave_v3', 'solc-0.8.27', roots, { evmVersion: 'cancun' }, resolve);

const libraries = {};
async function link(name) {
  const needed = Object.values(contracts[name].linkReferences ?? {}).flatMap(file => Object.keys(file));
  for (const library of needed) {
    if (libraries[library]) continue;
    await link(library);
    libraries[library] = (await deploy(contracts[library], deployer, [], libraries)).target;
  }
}
async function create(name, ...args) {
  await link(name);
  return deploy(contracts[name], deployer, args, libraries);
}
const at = (name, address) => new ethers.Contract(address, contracts[name].abi, deployer);

const provider = await create('PoolAddressesProvider', 'local', own);
await mined(provider.setACLAdmin(own));
const acl = await create('ACLManager', provider.target);
await mined(provider.setACLManager(acl.target));
for (const grant of ['addPoolAdmin', 'addRiskAdmin', 'addEmergencyAdmin', 'addAssetListingAdmin']) await mined(acl[grant](own));
const rates = await create('DefaultReserveInterestRateStrategyV2', provider.target);
const poolCode = await create('PoolInstance', provider.target, rates.target);
await mined(provider.setPoolImpl(poolCode.target));
await mined(provider.setPoolConfiguratorImpl((await create('PoolConfiguratorInstance')).target));
const pool = at('PoolInstance', await provider.getPool());
const configurator = at('PoolConfiguratorInstance', await provider.getPoolConfigurator());
await mined(provider.setPoolDataProvider((await create('AaveProtocolDataProvider', provider.target)).target));

// Told one word, it keeps it; asked anything else, it answers that word.
const FEED = '0x743660201460 0f575f545f5260205ff35b5f355f55005f526015600bf3'.replaceAll(' ', '');
async function feed(word) {
  const { contractAddress } = await mined(deployer.sendTransaction({ data: FEED }));
  await mined(deployer.sendTransaction({ to: contractAddress, data: ethers.toBeHex(word, 32) }));
  return contractAddress;
}

// ltv, liquidation threshold, liquidation bonus, protocol fee, reserve factor (bps); rates: optimal use (bps), base, slopes (bps).
const listings = [
  { symbol: 'WETH', decimals: 18, price: 2_000_00000000n, collateral: [8000, 8250, 10500], fee: 1000, factor: 1500, rates: [9000, 0, 270, 8000] },
  { symbol: 'USDC', decimals: 6, price: 1_00000000n, collateral: [7500, 7800, 10450], fee: 1000, factor: 1000, rates: [9200, 0, 550, 6000] },
  { symbol: 'WBTC', decimals: 8, price: 40_000_00000000n, collateral: [7300, 7800, 10650], fee: 1000, factor: 2000, rates: [8000, 0, 400, 30000] },
  { symbol: 'wstETH', decimals: 18, price: 2_300_00000000n, collateral: [7850, 8100, 10600], fee: 1000, factor: 500, rates: [8000, 0, 700, 10000] },
  { symbol: 'DAI', decimals: 18, price: 99950000n, collateral: [6300, 7700, 10500], fee: 0, factor: 2500, rates: [9200, 100, 450, 7500] },
];
for (const listing of listings) {
  listing.token = await create('TestnetERC20', listing.symbol, listing.symbol, listing.decimals, own);
  listing.feed = await feed(listing.price);
}
const assets = listings.map(listing => listing.token.target);
const none = ethers.ZeroAddress;
const oracle = await create('AaveOracle', provider.target, assets, listings.map(listing => listing.feed), none, none, 10n ** 8n);
await mined(provider.setPriceOracle(oracle.target));

const treasury = ethers.getAddress('0x7e00000000000000000000000000000000007e00');
const aTokenCode = await create('ATokenInstance', pool.target, none, treasury);
const debtTokenCode = await create('VariableDebtTokenInstance', pool.target, none);
const encoded = rates => ethers.AbiCoder.defaultAbiCoder().encode(['tuple(uint16,uint32,uint32,uint32)'], [rates]);
await mined(
  configurator.initReserves(
    listings.map(({ symbol, token, rates }) => ({
      aTokenImpl: aTokenCode.target,
      variableDebtTokenImpl: debtTokenCode.target,
      underlyingAsset: token.target,
      aTokenName: `a${symbol}`,
      aTokenSymbol: `a${symbol}`,
      variableDebtTokenName: `debt${symbol}`,
      variableDebtTokenSymbol: `debt${symbol}`,
      params: '0x',
      interestRateData: encoded(rates),
    })),
  ),
);
for (const { token, collateral, fee, factor } of listings) {
  await mined(configurator.configureReserveAsCollateral(token.target, ...collateral));
  await mined(configurator.setReserveBorrowing(token.target, true));
  await mined(configurator.setReserveFlashLoaning(token.target, true));
  await mined(configurator.setReserveFactor(token.target, factor));
  if (fee) await mined(configurator.setLiquidationProtocolFee(token.target, fee));
}

// Category 1: ether and what follows it. Category 2: dollars, one of which brings no borrowing power in it.
const [weth, usdc, , wsteth, dai] = assets;
await mined(configurator.setEModeCategory(1, 9300, 9500, 10100, 'ether'));
await mined(configurator.setEModeCategory(2, 9000, 9300, 10200, 'dollars'));
for (const [asset, category] of [[weth, 1], [wsteth, 1], [usdc, 2], [dai, 2]]) {
  await mined(configurator.setAssetCollateralInEMode(asset, category, true));
  await mined(configurator.setAssetBorrowableInEMode(asset, category, true));
}

// A sequencer that answers up (0) since long ago: the sentinel is made, but not set.
const sequencer = await create('SequencerOracle', own);
await mined(sequencer.setAnswer(false, 1));
const sentinel = await create('PriceOracleSentinel', provider.target, sequencer.target, 3600);

const receipts = await Promise.all(assets.map(async asset => [await pool.getReserveAToken(asset), await pool.getReserveVariableDebtToken(asset)]));
report({
  owner: own,
  addresses_provider: provider.target,
  pool: pool.target,
  pool_configurator: configurator.target,
  pool_implementation: poolCode.target,
  oracle: oracle.target,
  sentinel: sentinel.target,
  sequencer: sequencer.target,
  treasury,
  reserves: listings.map(({ symbol, decimals, feed, price }, at) => ({
    symbol,
    decimals,
    feed,
    price: price.toString(),
    asset: assets[at],
    a_token: receipts[at][0],
    debt_token: receipts[at][1],
  })),
});
