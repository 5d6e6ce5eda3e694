pub mod anvil;
pub mod audit;
pub mod census;
pub mod makers;
pub mod node;
pub mod population;
pub mod scenario;
pub mod venue;
pub mod watch;

#[cfg(test)]
mod tests;
