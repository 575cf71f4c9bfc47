//! Random actions and crashes against a model.
