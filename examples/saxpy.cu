// y = a x + y on the first card; 0 when it went well, else CUDA's error number.
#include <cuda_runtime.h>

__global__ void saxpy_kernel(int n, float a, const float *x, float *y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

extern "C" int saxpy(int n, float a, const float *x, float *y) {
    size_t bytes = n * sizeof(float);
    float *on_card_x, *on_card_y;
    cudaMalloc(&on_card_x, bytes);
    cudaMalloc(&on_card_y, bytes);
    cudaMemcpy(on_card_x, x, bytes, cudaMemcpyHostToDevice);
    cudaMemcpy(on_card_y, y, bytes, cudaMemcpyHostToDevice);
    saxpy_kernel<<<(n + 255) / 256, 256>>>(n, a, on_card_x, on_card_y);
    cudaMemcpy(y, on_card_y, bytes, cudaMemcpyDeviceToHost);
    cudaFree(on_card_x);
    cudaFree(on_card_y);
    return cudaGetLastError();
}
