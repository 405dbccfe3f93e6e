//! A view that gives up beyond a budget of rows and bytes, for reads that are tried
//! on a client's own thread before one that may wait for the disk.

use std::{cell::Cell, ops::ControlFlow};

use bytes::Bytes;
use mizzen_core::{Family, View, ViewError};

/// A view that answers small reads only: after so many rows, or bytes of them,
/// it says that the caller must read again on a thread that may take its time.
pub struct BudgetedView<V> {
    view: V,
    rows: Cell<usize>,
    bytes: Cell<usize>,
}

impl<V: View> BudgetedView<V> {
    pub fn new(view: V, rows: usize, bytes: usize) -> Self {
        Self {
            view,
            rows: Cell::new(rows),
            bytes: Cell::new(bytes),
        }
    }

    /// Takes a row of so many bytes.
    fn take(&self, bytes: usize) -> Result<(), ViewError> {
        let rows = self.rows.get().checked_sub(1);
        let bytes = self.bytes.get().checked_sub(bytes);
        let (rows, bytes) = rows.zip(bytes).ok_or(ViewError::WouldBlock)?;
        self.rows.set(rows);
        self.bytes.set(bytes);
        Ok(())
    }
}

impl<V: View> View for BudgetedView<V> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.take(0)?;
        let row = self.view.get(family, key)?;
        if let Some(row) = &row {
            let left = self.bytes.get().checked_sub(row.len());
            self.bytes.set(left.ok_or(ViewError::WouldBlock)?);
        }
        Ok(row)
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
            over = self.take(key.len() + value.len()).is_err();
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
