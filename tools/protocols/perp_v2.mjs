// Deploys Perpetual Protocol v2 ("Curie" 2.8.4) from the artifacts of its npm packages, with its own price feeds: two
// markets, another collateral besides the settlement token, an insurance fund without money.
//
//   node tools/protocols/perp_v2.mjs RPC_URL KEEPER
//
// Two stand-ins: the settlement token (contracts/src/SettlementToken.sol) and what the price feeds read, a Chainlink
// aggregator that anybody may set (perp_v2/PriceAggregator.sol). Everything else is the published bytecode. The averaging
// intervals are shorter than the live ones, set by the owner's own functions, so that the mark price follows within minutes.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chain, compile, deploy, ethers, inPackage, mined, readJson, report } from './lib.mjs';

const PRICES = [2_000, 30_000];
const FEE_RATIO = 10_000; // 1 %, the pools' own
const EXCHANGE_FEE_RATIO = 1_000; // 0.1 %, what traders pay
const FUND_FEE_RATIO = 100_000; // a tenth of it goes to the insurance fund
const COLLATERAL_RATIO = 700_000;
const MARK_TWAP_SECONDS = 300;
const PREMIUM_SECONDS = 120;
const FUNDING_TWAP_SECONDS = 120;

const here = fileURLToPath(new URL('.', import.meta.url));
const artifact = (name, file) =>
  readJson(inPackage(name, 'artifacts', 'contracts', `${file}.sol`, `${file.split('/').at(-1)}.json`));
const curie = (name) => artifact('@perp/curie-contract', name);
const oracle = (name) => artifact('@perp/perp-oracle-contract', name);
const tokenArtifact = readJson(join(here, '..', '..', 'contracts', 'artifacts', 'SettlementToken.json'));
const double = join(here, 'perp_v2', 'PriceAggregator.sol');
const { PriceAggregator } = compile('perp_v2', 'solc', { 'PriceAggregator.sol': double }, { evmVersion: 'paris' });

const { deployer: owner } = await chain();
const ownerAddress = await owner.getAddress();

/** The square root of a price in Q64.96, rounded down. */
function sqrtPriceX96(price) {
  const square = BigInt(price) << 192n;
  let root = 1n << 128n;
  for (let last = 0n; root !== last; ) {
    last = root;
    root = (root + square / root) >> 1n;
    if (root >= last) return last;
  }
  return root;
}

/** Real price feeds over a stand-in aggregator. */
async function priceFeed(price) {
  const aggregator = await deploy(PriceAggregator, owner, [8, BigInt(price) * 10n ** 8n]);
  const chainlink = await deploy(oracle('ChainlinkPriceFeedV3'), owner, [aggregator.target, 86_400 * 365, 900]);
  const dispatcher = await deploy(oracle('PriceFeedDispatcher'), owner, [chainlink.target]);
  return { aggregator, dispatcher };
}

const token = await deploy(tokenArtifact, owner);
const factory = await deploy(artifact('@uniswap/v3-core', 'UniswapV3Factory'), owner);
const names = ['ClearingHouseConfig', 'MarketRegistry', 'OrderBook', 'Exchange', 'AccountBalance', 'Vault', 'InsuranceFund'];
const c = {};
for (const name of [...names, 'ClearingHouse', 'CollateralManager']) c[name] = await deploy(curie(name), owner);
// A pool's base token must have the lower address (MR_IB).
let quote;
do quote = await deploy(curie('QuoteToken'), owner);
while (BigInt(quote.target) >> 156n < 0xcn);

await mined(c.ClearingHouseConfig.initialize());
await mined(quote.initialize('Virtual USD', 'vUSD'));
await mined(c.MarketRegistry.initialize(factory.target, quote.target));
await mined(c.OrderBook.initialize(c.MarketRegistry.target));
await mined(c.Exchange.initialize(c.MarketRegistry.target, c.OrderBook.target, c.ClearingHouseConfig.target));
await mined(c.OrderBook.setExchange(c.Exchange.target));
await mined(c.InsuranceFund.initialize(token.target));
await mined(c.AccountBalance.initialize(c.ClearingHouseConfig.target, c.OrderBook.target));
await mined(c.Exchange.setAccountBalance(c.AccountBalance.target));
await mined(
  c.Vault.initialize(c.InsuranceFund.target, c.ClearingHouseConfig.target, c.AccountBalance.target, c.Exchange.target),
);
await mined(c.InsuranceFund.setVault(c.Vault.target));
await mined(c.AccountBalance.setVault(c.Vault.target));
await mined(
  c.ClearingHouse.initialize(
    c.ClearingHouseConfig.target,
    c.Vault.target,
    quote.target,
    factory.target,
    c.Exchange.target,
    c.AccountBalance.target,
    c.InsuranceFund.target,
  ),
);
for (const name of ['MarketRegistry', 'OrderBook', 'Exchange', 'AccountBalance', 'Vault']) {
  await mined(c[name].setClearingHouse(c.ClearingHouse.target));
}
await mined(c.ClearingHouseConfig.setSettlementTokenBalanceCap(ethers.MaxUint256));
await mined(c.ClearingHouseConfig.setMarkPriceMarketTwapInterval(MARK_TWAP_SECONDS));
await mined(c.ClearingHouseConfig.setMarkPricePremiumInterval(PREMIUM_SECONDS));
await mined(c.ClearingHouseConfig.setTwapInterval(FUNDING_TWAP_SECONDS));
await mined(quote.addWhitelist(c.ClearingHouse.target));
await mined(quote.mintMaximumTo(c.ClearingHouse.target));

const markets = [];
for (const [index, price] of PRICES.entries()) {
  const { aggregator, dispatcher } = await priceFeed(price);
  let base;
  do base = await deploy(curie('BaseToken'), owner);
  while (BigInt(base.target) >= BigInt(quote.target));
  await mined(base.initialize(`Virtual base ${index}`, `vBASE${index}`, dispatcher.target));
  await mined(base.addWhitelist(c.ClearingHouse.target));
  await mined(base.mintMaximumTo(c.ClearingHouse.target));
  await mined(factory.createPool(base.target, quote.target, FEE_RATIO));
  const address = await factory.getPool(base.target, quote.target, FEE_RATIO);
  const pool = new ethers.Contract(address, artifact('@uniswap/v3-core', 'UniswapV3Pool').abi, owner);
  await mined(pool.initialize(sqrtPriceX96(price)));
  await mined(pool.increaseObservationCardinalityNext(400));
  await mined(base.addWhitelist(address));
  await mined(quote.addWhitelist(address));
  await mined(c.MarketRegistry.addPool(base.target, FEE_RATIO));
  await mined(c.MarketRegistry.setFeeRatio(base.target, EXCHANGE_FEE_RATIO));
  await mined(c.MarketRegistry.setInsuranceFundFeeRatio(base.target, FUND_FEE_RATIO));
  await mined(c.MarketRegistry.setMarketMaxPriceSpreadRatio(base.target, 1_000_000));
  await mined(c.Exchange.setMaxTickCrossedWithinBlock(base.target, 1000));
  markets.push({ base: base.target, pool: address, aggregator: aggregator.target, price });
}

// Another collateral, worth what the first market's base is.
const collateral = await deploy(tokenArtifact, owner);
const feed = await priceFeed(markets[0].price);
await mined(
  c.CollateralManager.initialize(
    c.ClearingHouseConfig.target,
    c.Vault.target,
    5, // most collaterals an account
    750_000, // debt over other collateral that lets it be liquidated
    500_000, // how much of it at once
    2_000, // margin above the maintenance margin at which it begins
    30_000, // the fund's part
    10_000_000_000, // debt that lets it be liquidated, settlement token
    500_000_000, // dust
  ),
);
await mined(
  c.CollateralManager.addCollateral(collateral.target, {
    priceFeed: feed.dispatcher.target,
    collateralRatio: COLLATERAL_RATIO,
    discountRatio: 100_000,
    depositCap: ethers.MaxUint256,
  }),
);
await mined(c.Vault.setCollateralManager(c.CollateralManager.target));

report({
  owner: ownerAddress,
  settlement_token: token.target,
  clearing_house: c.ClearingHouse.target,
  account_balance: c.AccountBalance.target,
  exchange: c.Exchange.target,
  order_book: c.OrderBook.target,
  vault: c.Vault.target,
  insurance_fund: c.InsuranceFund.target,
  market_registry: c.MarketRegistry.target,
  clearing_house_config: c.ClearingHouseConfig.target,
  collateral: { token: collateral.target, aggregator: feed.aggregator.target },
  markets,
});
