mod applying;
mod chain;
mod contracts;
mod refusing;
