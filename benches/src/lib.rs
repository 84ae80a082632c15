//! Benchmarks and side-by-side runs against other proxies
