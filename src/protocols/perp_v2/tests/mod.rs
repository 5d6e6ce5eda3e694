mod applying;
mod chain;
mod contracts;
mod fuzzing;
mod refusing;
