pub mod node;
pub mod scenario;
pub mod venue;
