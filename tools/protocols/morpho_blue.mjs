// Morpho Blue with the adaptive-curve rate model: three markets to begin with, and what two more need that are created
// while the daemon runs.
//
// The singleton, the tokens, the oracles and the linear rate model are @morpho-org/morpho-blue's own sources. The adaptive
// curve is not published by its authors on npm; sphere-mezo-solidity-files carries its source, and that, compared token by
// token with the authors' repository (morpho-org/morpho-blue-irm), differs in pragmas, import paths and line breaks only.
//
//   node tools/protocols/morpho_blue.mjs RPC_URL KEEPER
import { existsSync } from 'node:fs';
import { chain, compile, deploy, ethers, inPackage, mined, report } from './lib.mjs';

const resolver = (prefix, place) => path => {
  const file = place(path.slice(prefix.length));
  return path.startsWith(prefix) && existsSync(file) ? file : path;
};
const blue = path => inPackage('@morpho-org/morpho-blue', 'src', path);
const files = ['Morpho.sol', 'mocks/ERC20Mock.sol', 'mocks/OracleMock.sol', 'mocks/IrmMock.sol'];
const roots = Object.fromEntries(files.map(file => [`morpho/${file}`, blue(file)]));
const contracts = compile('morpho_blue', 'solc-0.8.19', roots, { evmVersion: 'paris' }, resolver('morpho/', blue));

const sphere = path => inPackage('sphere-mezo-solidity-files', 'domains', path);
const irmRoot = 'morphoIrm/contracts/AdaptiveCurveIrm.sol';
const irmRoots = { [`domains/${irmRoot}`]: sphere(irmRoot) };
const irms = compile('morpho_blue_irm', 'solc', irmRoots, { evmVersion: 'paris' }, resolver('domains/', sphere));

const { rpc, deployer, keeper } = await chain();
const keeperSigner = new ethers.JsonRpcSigner(rpc, keeper);
const owner = await deployer.getAddress();
const create = (name, ...args) => deploy(contracts[name], deployer, args);
const morpho = await create('Morpho', owner);
const curve = await deploy(irms.AdaptiveCurveIrm, deployer, [morpho.target]);
const linear = await create('IrmMock');
for (const irm of [curve.target, linear.target, ethers.ZeroAddress]) await mined(morpho.enableIrm(irm));

// Units of a token in one whole one.
const decimals = { usd: 6n, eth: 18n, btc: 8n, gov: 18n };
const tokens = {};
for (const name of Object.keys(decimals)) {
  tokens[name] = await create('ERC20Mock');
  await mined(tokens[name].setBalance(keeper, 10n ** (12n + decimals[name])));
  await mined(tokens[name].connect(keeperSigner).approve(morpho.target, ethers.MaxUint256));
}

// Whole loan tokens a whole collateral token is worth at first.
const listings = [
  { loan: 'usd', collateral: 'eth', price: 2_000n, lltv: '0.86', irm: curve.target, created: true },
  { loan: 'usd', collateral: 'btc', price: 40_000n, lltv: '0.77', irm: curve.target, created: true },
  { loan: 'eth', collateral: 'btc', price: 20n, lltv: '0.945', irm: ethers.ZeroAddress, created: true },
  { loan: 'usd', collateral: 'gov', price: 5n, lltv: '0.625', irm: curve.target, created: false },
  { loan: 'usd', collateral: 'eth', price: 2_000n, lltv: '0.915', irm: linear.target, created: false },
];
const markets = [];
for (const { loan, collateral, price, lltv, irm, created } of listings) {
  const oracle = await create('OracleMock');
  await mined(oracle.setPrice(price * 10n ** (36n + decimals[loan] - decimals[collateral])));
  await mined(morpho.enableLltv(ethers.parseEther(lltv)));
  const params = [tokens[loan].target, tokens[collateral].target, oracle.target, irm, ethers.parseEther(lltv)];
  if (created) await mined(morpho.createMarket(params));
  const unit = String(10n ** decimals[loan]);
  markets.push({ loan: params[0], collateral: params[1], oracle: params[2], irm, lltv: params[4].toString(), created, unit });
}
report({ owner, morpho: morpho.target, curve: curve.target, tokens: Object.values(tokens).map(token => token.target), markets });
