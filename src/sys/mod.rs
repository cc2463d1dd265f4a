//! What safe Rust has no words for: a system call, and the vector instructions of the CPU. The one
//! folder with `unsafe`; everything it offers is safe to use. Knows nobody.

pub mod fd;
pub mod simd;
