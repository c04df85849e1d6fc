//! A process that does not outlive its test.

use std::{
    ops::{Deref, DerefMut},
    process::Child,
};

/// Kills and reaps the process when dropped.
pub(crate) struct Guard(pub(crate) Child);

impl Deref for Guard {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Errors mean that it is gone already, and that is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
