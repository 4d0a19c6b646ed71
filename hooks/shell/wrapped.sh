#!/bin/sh
exec ic-secrets run my-site.dev -- composer install --no-interaction --no-progress
