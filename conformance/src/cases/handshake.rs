//! later
use super::cases;
cases! {}
