#!/usr/bin/env node
// Lets forge compile with the npm compiler where no native one is installed: it answers the two questions forge asks of a
// `solc` binary (its version, and standard JSON in and out) and nothing else.
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const path = require('node:path');
const solc = require(path.join(__dirname, '..', 'tools', 'node_modules', 'solc'));

function parse(args) {
  const parsed = { roots: [process.cwd()], input: 0 }; // 0 = standard input
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--base-path') parsed.roots[0] = args[++i];
    else if (args[i] === '--include-path') parsed.roots.push(args[++i]);
    else if (args[i] === '--allow-paths') i++;
    else if (!args[i].startsWith('-')) parsed.input = args[i];
  }
  return parsed;
}

function main(args) {
  if (args.includes('--version')) {
    // Forge takes only native builds' version strings.
    const version = solc.version().replace('.Emscripten.clang', '.Linux.g++');
    process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
    return;
  }
  if (!args.includes('--standard-json')) {
    process.stderr.write('solc-wrapper: only --version and --standard-json are understood\n');
    process.exitCode = 1;
    return;
  }
  const { roots, input } = parse(args);
  const read = (name) => {
    const found = roots.map((root) => path.resolve(root, name)).find(existsSync);
    return found ? { contents: readFileSync(found, 'utf8') } : { error: `not found: ${name}` };
  };
  process.stdout.write(solc.compile(readFileSync(input, 'utf8'), { import: read }));
}

main(process.argv.slice(2));
