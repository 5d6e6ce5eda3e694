// Morpho Blue with one market, for the burst: the published sources, with the package's own tokens, oracle and rate model,
// which its authors test with. The keeper holds loan tokens and has approved the singleton.
//
//   node tools/protocols/morpho_blue_burst.mjs RPC_URL KEEPER
import { existsSync } from 'node:fs';
import { chain, compile, deploy, ethers, inPackage, mined, report } from './lib.mjs';

const LLTV = ethers.parseEther('0.8');
const LENT = ethers.parseEther('10000000');
const PRICE = 2_000n * 10n ** 36n;

const source = path => inPackage('@morpho-org/morpho-blue', 'src', path);
const files = ['Morpho.sol', 'mocks/ERC20Mock.sol', 'mocks/OracleMock.sol', 'mocks/IrmMock.sol'];
const roots = Object.fromEntries(files.map(file => [`morpho/${file}`, source(file)]));
const resolve = path => {
  const file = source(path.slice('morpho/'.length));
  return path.startsWith('morpho/') && existsSync(file) ? file : path;
};
const contracts = compile('morpho_blue_burst', 'solc-0.8.19', roots, { evmVersion: 'paris' }, resolve);

const { rpc, deployer, keeper } = await chain();
const keeperSigner = new ethers.JsonRpcSigner(rpc, keeper);
const owner = await deployer.getAddress();
const create = (name, ...args) => deploy(contracts[name], deployer, args);
const morpho = await create('Morpho', owner);
const loan = await create('ERC20Mock');
const collateral = await create('ERC20Mock');
const oracle = await create('OracleMock');
const irm = await create('IrmMock');
await mined(morpho.enableIrm(irm.target));
await mined(morpho.enableLltv(LLTV));
await mined(oracle.setPrice(PRICE));
const market = [loan.target, collateral.target, oracle.target, irm.target, LLTV];
await mined(morpho.createMarket(market));
await mined(loan.setBalance(owner, LENT));
await mined(loan.approve(morpho.target, ethers.MaxUint256));
await mined(morpho.supply(market, LENT, 0, owner, '0x'));
await mined(loan.setBalance(keeper, LENT));
await mined(loan.connect(keeperSigner).approve(morpho.target, ethers.MaxUint256));
report({
  owner,
  morpho: morpho.target,
  loan: loan.target,
  collateral: collateral.target,
  oracle: oracle.target,
  irm: irm.target,
  lltv: LLTV.toString(),
});
