"""Deployment: releases, targets, rollback, history."""
