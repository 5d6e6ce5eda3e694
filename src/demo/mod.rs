pub mod audit;
pub mod census;
pub mod makers;
pub mod node;
pub mod population;
pub mod scenario;
pub mod venue;
