#!/usr/bin/env node
// Compiles contracts/src with the pinned npm compiler and writes one artifact per contract to contracts/artifacts.
//
//   node contracts/build.mjs           write the artifacts
//   node contracts/build.mjs --check   write nothing; exit 1 and name every artifact the sources do not produce
//
// Needs `npm ci` in tools/. The settings are foundry.toml's, so that what is tested is what is deployed.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const contractsDir = path.dirname(fileURLToPath(import.meta.url));
const modulesDir = path.join(contractsDir, '..', 'tools', 'node_modules');
const artifactsDir = path.join(contractsDir, 'artifacts');

const PUBLISHED = [
  'Clearinghouse',
  'RiskSteward',
  'PriceFeed',
  'SettlementToken',
  'IClearinghouse',
  'IRiskSteward',
  'IPriceFeed',
  'BackstopPool',
  'ClearinghouseMember',
  'IBackstopPool',
];
const DEPLOYED_BYTES_MAX = 24_576; // EIP-170

const SETTINGS = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: 'cancun',
  metadata: { bytecodeHash: 'none' },
  outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
};

function loadCompiler() {
  try {
    return createRequire(path.join(modulesDir, 'package.json'))('solc');
  } catch (error) {
    fail(`cannot load the compiler from ${modulesDir}: run \`npm ci\` in tools/ (${error.message.split('\n')[0]})`);
  }
}

function fail(message) {
  console.error(`contracts/build.mjs: ${message}`);
  process.exit(1);
}

function compile(solc) {
  const names = readdirSync(path.join(contractsDir, 'src')).filter((name) => name.endsWith('.sol')).sort();
  const sources = Object.fromEntries(
    names.map((name) => [`src/${name}`, { content: readFileSync(path.join(contractsDir, 'src', name), 'utf8') }]),
  );
  const input = { language: 'Solidity', sources, settings: SETTINGS };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
  // A warning in our own sources fails the build; the library's are its maintainers' business.
  const counts = ({ severity, sourceLocation }) => severity === 'error' || sourceLocation?.file.startsWith('src/');
  const reports = (output.errors ?? []).filter(counts);
  for (const report of reports) console.error(report.formattedMessage);
  if (reports.length > 0) fail(`${reports.length} error(s) or warning(s) in the sources`);
  return output.contracts;
}

function readImport(name) {
  try {
    return { contents: readFileSync(path.join(modulesDir, name), 'utf8') };
  } catch {
    return { error: `not found: ${name}` };
  }
}

function artifact(contracts, name) {
  const compiled = contracts[`src/${name}.sol`]?.[name] ?? fail(`src/${name}.sol has no contract ${name}`);
  const { bytecode, deployedBytecode } = compiled.evm;
  const size = deployedBytecode.object.length / 2;
  if (size > DEPLOYED_BYTES_MAX) fail(`${name} has ${size} bytes of code, ${DEPLOYED_BYTES_MAX} can be deployed`);
  const content = {
    contractName: name,
    abi: compiled.abi,
    bytecode: `0x${bytecode.object}`,
    deployedBytecode: `0x${deployedBytecode.object}`,
  };
  return { name, size, text: `${JSON.stringify(content, null, 1)}\n` };
}

function committed(name) {
  try {
    return readFileSync(path.join(artifactsDir, `${name}.json`), 'utf8');
  } catch {
    return null;
  }
}

function check(artifacts) {
  const known = new Set(artifacts.map(({ name }) => `${name}.json`));
  const stray = readdirSync(artifactsDir).filter((name) => !known.has(name));
  const differing = artifacts.filter(({ name, text }) => committed(name) !== text).map(({ name }) => `${name}.json`);
  for (const name of differing) console.error(`contracts/artifacts/${name} does not come from the sources`);
  for (const name of stray) console.error(`contracts/artifacts/${name} belongs to no published contract`);
  if (differing.length + stray.length > 0) fail('artifacts differ: run `node contracts/build.mjs` and commit them');
  console.log(`${artifacts.length} artifacts come from the sources`);
}

function write(artifacts) {
  mkdirSync(artifactsDir, { recursive: true });
  for (const { name, size, text } of artifacts) {
    writeFileSync(path.join(artifactsDir, `${name}.json`), text);
    console.log(`${name}: ${size} bytes`);
  }
}

const flags = process.argv.slice(2);
if (flags.some((flag) => flag !== '--check')) fail('usage: node contracts/build.mjs [--check]');
const contracts = compile(loadCompiler());
const artifacts = PUBLISHED.map((name) => artifact(contracts, name));
if (flags.includes('--check')) check(artifacts);
else write(artifacts);
