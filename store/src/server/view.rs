//! Looking at rows without staying too long.

use std::{cell::Cell, ops::ControlFlow};

use bytes::Bytes;
use mizzen_core::{Family, View, ViewError};

/// A view that answers small questions only: after `rows` rows it says that
/// the caller must ask again from a thread that may take its time.
pub struct Brief<V> {
    view: V,
    rows: Cell<usize>,
}

impl<V: View> Brief<V> {
    pub fn new(view: V, rows: usize) -> Self {
        Self {
            view,
            rows: Cell::new(rows),
        }
    }

    fn take(&self) -> Result<(), ViewError> {
        let left = self
            .rows
            .get()
            .checked_sub(1)
            .ok_or(ViewError::WouldBlock)?;
        self.rows.set(left);
        Ok(())
    }
}

impl<V: View> View for Brief<V> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.take()?;
        self.view.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let mut over = false;
        self.view.scan(family, from, to, &mut |key, value| {
            over = self.take().is_err();
            if over {
                ControlFlow::Break(())
            } else {
                visit(key, value)
            }
        })?;
        if over {
            Err(ViewError::WouldBlock)
        } else {
            Ok(())
        }
    }
}
