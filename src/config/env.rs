//! (config/env)
